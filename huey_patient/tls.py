"""TLS as the settings want it: who is trusted, and who we are.

Made twice: by the consumer at its start, where a mistake is told to whoever
starts it, and by the I/O process, which uses it.  So it needs `ssl` alone.
"""

from __future__ import annotations

import ssl
from typing import NoReturn

from .errors import ConfigurationError
from .settings import Settings

__all__ = ["client_context"]


def client_context(settings: Settings) -> ssl.SSLContext:
    """Return the context of every connection.

    Raises:
        ConfigurationError: ``ca_file`` or ``client_cert`` cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ValueError) as reason:
        raise ConfigurationError(f"ca_file cannot be read: {reason}") from None
    cert = settings.client_cert
    if cert is not None:
        file, key = (cert, None) if isinstance(cert, str) else cert
        try:
            context.load_cert_chain(file, key, password=_no_passphrase)
        except ConfigurationError:
            raise
        except (OSError, ValueError) as reason:
            raise ConfigurationError(f"client_cert cannot be read: {reason}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Without it, a server that speaks HTTP/2 first may choose that.
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_passphrase() -> NoReturn:
    # Without this, OpenSSL asks the terminal, and a service waits for ever.
    raise ConfigurationError(
        "the key of client_cert is encrypted; give a file without a passphrase, readable by "
        "the consumer alone (openssl pkey -in key.pem -out plain.pem)"
    )
