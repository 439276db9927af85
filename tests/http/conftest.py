"""What the tests of the HTTP client are given."""

from support.fixtures import (
    authority,
    ca_file,
    naps,
    other,
    secure_server,
    server,
    server_context,
)

__all__ = ["authority", "ca_file", "naps", "other", "secure_server", "server", "server_context"]
