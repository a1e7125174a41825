"""The base address that links and redirects begin with. Headers that proxies add are not believed."""

import ipaddress
import re
from collections.abc import Iterable

from starlette.types import Scope

from compute.settings import Settings

__all__ = ["host_fault", "public_base"]

_HOST = re.compile(r"(?:(?P<name>[A-Za-z0-9._-]+)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?")
_LARGEST_PORT = 65535


def host_fault(scope: Scope) -> str | None:
    """The fault of the request's `Host`. HTTP/1.0 may do without one."""
    given = _hosts(scope["headers"])
    if len(given) > 1:
        return "Host: send it once."
    if not given:
        return None if scope.get("http_version") == "1.0" else "Host: send the name that you called, once."
    return None if _valid(given[0]) else "Host: neither a name nor an address, with or without a port."


def public_base(scope: Scope, settings: Settings) -> str:
    """The address of this API as its client knows it, without a slash at its end: the public one that is set, else
    the host that the request names, else the address at which the stack listens. Never that of a replica."""
    if settings.public_url is not None:
        return settings.public_url.rstrip("/")
    local = settings.local_url.rstrip("/")
    given = _hosts(scope["headers"])
    if len(given) != 1 or not _valid(given[0]):
        return local
    scheme = local.partition("://")[0]
    return f"{scheme}://{given[0]}{scope.get('root_path', '')}".rstrip("/")


def _hosts(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name == b"host"]


def _valid(host: str) -> bool:
    match = _HOST.fullmatch(host)
    if match is None or int(match["port"] or 0) > _LARGEST_PORT:
        return False
    if match["ipv6"] is None:
        return True
    try:
        ipaddress.IPv6Address(match["ipv6"])
    except ValueError:
        return False
    return True
