"""Where a request may go: rules over hosts, ports and addresses, without a network.

Hosts and ports are read from the URL of each hop.  Addresses are judged when a
socket is about to be made, after the name was resolved: what was looked up
earlier may have changed since, and a literal is never looked up at all.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from ..settings import Settings
from ..urls import is_host_listed, origin

__all__ = ["PRIVATE_PORTS", "is_private", "refusal"]

#: Services inside a network that take an HTTP request for commands of their
#: own: SSH, SMTP, PostgreSQL, Redis, memcached.
PRIVATE_PORTS = frozenset((22, 25, 5432, 6379, 11211))

# A table of our own: `ipaddress.is_global` changed between patch releases of
# Python, and says True for multicast, for 168.63.129.16, and for IPv6 forms
# that carry a private IPv4 address.
_V4: tuple[IPv4Network, ...] = tuple(
    IPv4Network(block)
    for block in """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
    192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24
    224.0.0.0/4 240.0.0.0/4 168.63.129.16/32
    """.split()  # The last is Azure's metadata service, a public address by its looks.
)
_V6: tuple[IPv6Network, ...] = tuple(
    IPv6Network(block)
    for block in """
    ::/96 100::/64 100:0:0:1::/64 2001:2::/48 2001:10::/28 2001:20::/28 2001:db8::/32 3fff::/20
    5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8
    """.split()
)
#: IPv6 networks whose addresses carry an IPv4 address, and how far it is shifted.
_CARRIERS: tuple[tuple[IPv6Network, int], ...] = tuple(
    (IPv6Network(block), shift)
    for block, shift in (
        ("::ffff:0:0/96", 0),  # IPv4-mapped
        ("::ffff:0:0:0/96", 0),  # IPv4-translated
        ("64:ff9b::/96", 0),  # NAT64
        ("2002::/16", 80),  # 6to4
    )
)
#: Local NAT64 may place the IPv4 address anywhere in it, and Teredo hides both
#: a server's and a client's: neither is needed to reach a public service.
_OPAQUE: tuple[IPv6Network, ...] = tuple(
    IPv6Network(block) for block in ("64:ff9b:1::/48", "2001::/32")
)
#: ISATAP: an IPv4 address behind one of these, in the lower half of any IPv6 one.
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


def is_private(address: str) -> bool:
    """Whether ``address`` is anything but one public host.

    True for loopback, private, link-local, metadata, multicast, reserved and
    documentation addresses, in each IPv6 form that carries one, and for text
    that is no address.
    """
    try:
        parsed = ip_address(address.partition("%")[0])  # without the scope of fe80::1%eth0
    except ValueError:
        return True
    if isinstance(parsed, IPv6Address):
        if _is_private_isatap(parsed):
            return True
        carried = _carried(parsed)
        if carried is None:
            return any(parsed in block for block in _V6 + _OPAQUE)
        parsed = carried
    return any(parsed in block for block in _V4)


def _is_private_isatap(address: IPv6Address) -> bool:
    lower = int(address) & 0xFFFF_FFFF_FFFF_FFFF
    inside = IPv4Address(lower & 0xFFFF_FFFF)
    return lower >> 32 in _ISATAP and any(inside in block for block in _V4)


def refusal(url: str, settings: Settings) -> str | None:
    """Why ``url`` may not be asked, or None when its host and port are allowed."""
    _, host, port = origin(url)
    if settings.allow_hosts is not None and not is_host_listed(host, settings.allow_hosts):
        return "the host is not in allow_hosts"
    if port in settings.deny_ports:
        return f"port {port} is in deny_ports"
    if settings.block_private_addresses and port in PRIVATE_PORTS:
        return f"port {port} is not asked while private addresses are blocked"
    return None


def _carried(address: IPv6Address) -> IPv4Address | None:
    for block, shift in _CARRIERS:
        if address in block:
            return IPv4Address(int(address) >> shift & 0xFFFF_FFFF)
    return None
