"""The TLS of the settings: what cannot be used is said before anything waits for it."""

import ssl
import uuid
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from huey import SqliteHuey

from huey_patient import ConfigurationError, Patient
from huey_patient.settings import Settings
from huey_patient.tls import client_context


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Names of PEM files, by what is in them; ``none`` is not there."""
    folder: Path = tmp_path_factory.mktemp("tls")
    named = {name: folder / f"{name}.pem" for name in "ca cert key both encrypted other".split()}
    authority = trustme.CA()
    mine = authority.issue_cert("client.test")
    authority.cert_pem.write_to_path(str(named["ca"]))
    mine.cert_chain_pems[0].write_to_path(str(named["cert"]))
    mine.private_key_pem.write_to_path(str(named["key"]))
    mine.private_key_and_cert_chain_pem.write_to_path(str(named["both"]))
    authority.issue_cert("other.test").private_key_pem.write_to_path(str(named["other"]))
    key = serialization.load_pem_private_key(mine.private_key_pem.bytes(), None)
    named["encrypted"].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    return {name: str(path) for name, path in named.items()} | {"none": str(folder / "none.pem")}


@pytest.mark.parametrize("cert", [None, "both", ("cert", "key")])
def test_a_context_verifies_and_speaks_what_we_speak(files, cert):
    named = tuple(map(files.get, cert)) if isinstance(cert, tuple) else files.get(cert)

    context = client_context(Settings(ca_file=files["ca"], client_cert=named))

    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"ca_file": "none"}, "ca_file cannot be read"),
        ({"ca_file": "key"}, "ca_file cannot be read"),
        ({"ca_file": "nul\0"}, "ca_file cannot be read"),
        ({"client_cert": "none"}, "client_cert cannot be read"),
        ({"client_cert": "cert"}, "client_cert cannot be read"),
        ({"client_cert": ("cert", "other")}, "client_cert cannot be read"),
        ({"client_cert": ("cert", "encrypted")}, "give a file without a passphrase"),
    ],
)
def test_a_file_that_cannot_be_used_keeps_the_consumer_from_starting(
    files, tmp_path, settings, complaint
):
    def named(value):
        return tuple(map(named, value)) if isinstance(value, tuple) else files.get(value, value)

    made = Settings(**{name: named(value) for name, value in settings.items()})
    huey = SqliteHuey(uuid.uuid4().hex, filename=str(tmp_path / "app.db"))
    Patient(huey, made)
    consumer = huey.create_consumer(workers=1)

    with pytest.raises(ConfigurationError, match=complaint):
        client_context(made)
    with pytest.raises(ConfigurationError, match=complaint):
        consumer.start()
    assert consumer.courier is None  # no process was started that would die over and over
