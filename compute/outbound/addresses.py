"""Classification of network addresses: a user's URL may lead only to the public internet."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

__all__ = ["AllowedHosts", "is_public", "literal_address"]

# Listed here rather than left to `is_global`, whose definition changes between releases of Python.
_V4_REFUSED = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# Global unicast is all of this; everything outside is local, multicast or reserved.
_V6_UNICAST = IPv6Network("2000::/3")
_V6_REFUSED = (IPv6Network("2001::/23"), IPv6Network("2001:db8::/32"), IPv6Network("3fff::/20"))
_NAT64 = IPv6Network("64:ff9b::/96")

# A last label that is a number makes resolvers read the whole host as an IPv4 address: 127.1, 0x7f000001.
_ENDS_IN_NUMBER = re.compile(r"(?:^|\.)(?:0x[0-9a-f]*|[0-9]+)$", re.ASCII | re.IGNORECASE)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address is a unicast address of the public internet, also after any tunnel's translation."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _V4_REFUSED)
    embedded = _embedded_v4(address)
    if embedded is not None:
        return is_public(embedded)
    return address in _V6_UNICAST and not any(address in network for network in _V6_REFUSED)


def _embedded_v4(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address is routed to (mapped, 6to4, NAT64); None if there is none."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def literal_address(host: str) -> IPv4Address | IPv6Address | None:
    """Parse a URL's host as an address; None if the host is a name.

    Raises:
        ValueError: an address in an unusual spelling (`127.1`, `0x7f000001`, a decimal number, a zone).
    """
    bare = host.rstrip(".")
    if "%" in bare:
        raise ValueError("a zone or an escaped character in a host")
    if ":" in bare or _ENDS_IN_NUMBER.search(bare):
        return ip_address(bare)
    return None


class AllowedHosts:
    """Hosts exempt from the address rule, each `host` (any port) or `host:port`; IPv6 as `[::1]:port`."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Parse the entries; case and a final dot do not matter."""
        self._entries = frozenset(_split(entry) for entry in entries)

    def allows(self, host: str, port: int | None) -> bool:
        """Whether the entries contain this host, or this host with this port."""
        bare = _bare(host)
        return (bare, None) in self._entries or (bare, port) in self._entries


def _split(entry: str) -> tuple[str, int | None]:
    host, colon, port = entry.rpartition(":")
    is_bare_v6 = ":" in host and not host.endswith("]")
    if not colon or is_bare_v6 or not port.isdecimal():
        return _bare(entry), None
    return _bare(host), int(port)


def _bare(host: str) -> str:
    return host.strip().lower().strip("[]").rstrip(".")
