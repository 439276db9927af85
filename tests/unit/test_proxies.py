"""Proxies and certificates: their settings, and how a proxy's URL is read."""

import base64

import pytest

from huey_patient.errors import ConfigurationError
from huey_patient.io_process.proxies import Proxy
from huey_patient.settings import Settings


def test_no_url_is_no_proxy():
    assert Proxy.from_url(None) is None


def test_credentials_leave_the_url_for_a_header():
    proxy = Proxy.from_url("http://us%40er:p%3Aw%2F@proxy.test:3128")

    assert proxy.url == "http://proxy.test:3128"
    [(name, value)] = proxy.headers.items()
    assert name == "Proxy-Authorization"
    assert base64.b64decode(value.removeprefix("Basic ")) == b"us@er:p:w/"
    assert repr(proxy) == "Proxy(url='http://proxy.test:3128')"


@pytest.mark.parametrize(
    "url",
    [
        *[
            "http://p",
            "HTTPS://P.test:3128/",
            "http://127.0.0.1:1",
            "http://[::1]:3128",
            "http://p.",
        ],
        *[
            "http://u:p@p_1.test",
            "http://u:p@ss:ä%20@p.test",
            "http://u@p.test",
            "http://:p@p.test",
        ],
    ],
)
def test_a_proxy_is_a_host_with_or_without_port_and_credentials(url):
    assert Settings(proxy_url=url).proxy_url == url


def test_without_credentials_no_header_is_sent():
    assert Proxy.from_url("https://proxy.test").headers == {}


@pytest.mark.parametrize(
    "url",
    [
        *[
            "ftp://p.test",
            "p.test:3128",
            "",
            7,
            "http://u:CANARY@p:x",
            "http://p:0",
            "http://p:65536",
        ],
        *["http://p.test/path", "http://p.test?CANARY", "http://p.test#CANARY", "http://p.test:"],
        *[
            "http://p.test\r\nX: CANARY",
            "http://u:CANARY\r\n@p.test",
            "http://p.test\n",
            " http://p",
        ],
        *[
            "http://u:CANARY CANARY@p.test",
            "http://u:\0@p.test",
            "http://p .test",
            "http://p\t.test",
        ],
        *[
            "http://p..test",
            f"http://{'p' * 64}.test",
            "http://bücher.test",
            "http://[x]",
            "http://@",
        ],
    ],
)
def test_a_proxy_url_that_is_none_is_refused_without_being_shown(url):
    with pytest.raises(ConfigurationError, match=r"^proxy_url must be an HTTP or HTTPS URL$"):
        Settings(proxy_url=url)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, None),
        ("both.pem", "both.pem"),
        (["both.pem"], "both.pem"),
        (["cert.pem", "key.pem"], ("cert.pem", "key.pem")),
    ],
)
def test_a_client_certificate_is_one_file_or_two(given, kept):
    assert Settings(client_cert=given).client_cert == kept


@pytest.mark.parametrize("given", [[], ["a", "b", "c"], [1], 7])
def test_another_client_certificate_is_refused(given):
    with pytest.raises(ConfigurationError):
        Settings(client_cert=given)


def test_certificates_can_be_named_in_the_environment():
    settings = Settings.from_environ(
        {"HUEY_PATIENT_CA_FILE": "ca.pem", "HUEY_PATIENT_CLIENT_CERT": "cert.pem, key.pem"}
    )

    assert settings.ca_file == "ca.pem"
    assert settings.client_cert == ("cert.pem", "key.pem")


def test_proxy_credentials_are_in_no_listing_of_the_settings():
    settings = Settings(proxy_url="http://u:CANARY@p.test")

    assert "CANARY" not in repr(settings) + str(settings.as_dict())
