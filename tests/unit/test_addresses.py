"""Where a request may go: the rules alone."""

import pytest

from huey_patient.io_process.addresses import is_private, refusal
from huey_patient.settings import Settings


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "::",
        "::1",
        "::127.0.0.1",
        "100::1",
        "100:0:0:1::1",
        "2001:2::1",
        "2001:10::1",
        "2001:1f:ffff::1",
        "2001:20::1",
        "2001:2f:ffff::1",
        "2001:db8::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_an_address_that_is_not_one_public_host_is_private(address):
    assert is_private(address)


@pytest.mark.parametrize(
    "address",
    [
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::ffff:0:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::1",
        "64:ff9b:1:808:8:800::",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2606:4700::5efe:7f00:1",
        "2606:4700::5efe:169.254.169.254",
        "2606:4700::200:5efe:10.0.0.1",
        "2002:808:808::5efe:7f00:1",
        "fe80::5efe:8.8.8.8",
        "fd00::200:5efe:8.8.8.8",
        "2001:0:7f00:1::",
        "2001::1",
    ],
)
def test_a_private_address_inside_another_form_is_private(address):
    assert is_private(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "11.0.0.1",
        "100.128.0.1",
        "172.32.0.1",
        "192.0.1.1",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2001:4860:4860::8888",
        "2001:2:1::1",
        "2001:30::1",
        "100:0:0:2::1",
        "2606:4700::5efe:8.8.8.8",
        "2606:4700::200:5efe:8.8.8.8",
        "2606:4700::100:5efe:7f00:1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ],
)
def test_a_public_address_is_not_private_in_any_form(address):
    assert not is_private(address)


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "2130706433", "0177.0.0.1", "①②⑦.⓪.⓪.①"]
)
def test_what_is_no_address_counts_as_private(text):
    assert is_private(text)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("api.example.com", True),
        ("API.Example.COM", True),
        ("api.example.com.", True),
        ("a.wide.example", True),
        ("a.b.wide.example", True),
        ("wide.example", False),
        ("evilwide.example", False),
        ("api.example.com.evil.test", False),
        ("evil-api.example.com", False),
        ("[::1]", True),
        ("127.0.0.1", False),
    ],
)
def test_only_hosts_in_allow_hosts_are_asked(host, allowed):
    settings = Settings(allow_hosts=("api.example.com", "*.wide.example", "[::1]"))

    assert (refusal(f"http://{host}/", settings) is None) is allowed


def test_any_host_is_asked_without_allow_hosts():
    assert refusal("http://anything.test:8080/", Settings()) is None


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("http://a.test:25/", True),
        ("http://a.test:80/", True),
        ("http://a.test/", True),
        ("https://a.test/", False),
        ("https://a.test:8443/", False),
    ],
)
def test_ports_in_deny_ports_are_not_asked_named_or_implied(url, refused):
    assert (refusal(url, Settings(deny_ports=(25, 80))) is not None) is refused


@pytest.mark.parametrize("port", [22, 25, 5432, 6379, 11211])
def test_ports_of_inner_services_are_not_asked_while_private_addresses_are_blocked(port):
    assert refusal(f"http://a.test:{port}/", Settings(block_private_addresses=True)) is not None
    assert refusal(f"http://a.test:{port}/", Settings()) is None
