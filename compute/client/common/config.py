"""Where the server is and which key it gets: from the arguments, else from the environment."""

import os
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from typing import Any, TypeVar

import httpx

from compute.client.common.failures import RetryPolicy
from compute.client.errors import ConfigurationError

__all__ = [
    "DEFAULT_URL",
    "Config",
    "gets_key",
    "is_below",
    "is_loopback",
    "is_sendable",
    "made",
    "same_origin",
    "transport_options",
]

Client = TypeVar("Client")

DEFAULT_URL = "http://127.0.0.1:8000"
_KEY_VARIABLES = ("COMPUTE_API_KEY", "API_KEY")
_OLD_ADDRESS = re.compile(r"[0-9a-fx]+(\.[0-9a-fx]+){0,3}", re.IGNORECASE)
"""An IPv4 address as C reads it: `127.1` is one."""
_OF_ENVIRONMENT = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_CONNECT_SECONDS = 10.0
_SILENCE_SECONDS = 60.0
"""Timeout of one silence: the server speaks at least every 15 s on an event stream. Starting a workflow fetches the
inputs that it names, in less than that."""
_IDLE = 20
"""Connections that are kept for the next request."""
_API = "/api/v1"
_KEY = re.compile(r"[!-~]+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")


def is_loopback(url: str | httpx.URL) -> bool:
    """Return whether a request to this address stays on this machine, as the HTTP client parses the address.

    Example:
        is_loopback("http://127.1:8000")  # True
    """
    try:
        host = httpx.URL(url).host.lower().removesuffix(".")
    except httpx.InvalidURL:
        return False
    if host == "localhost":
        return True
    try:
        found = ip_address(socket.inet_aton(host) if _OLD_ADDRESS.fullmatch(host) else host)
    except (ValueError, OSError):
        return False
    real = getattr(found, "ipv4_mapped", None) or found
    # The address that names no host is reached on this one.
    return bool(real.is_loopback or real.is_unspecified)


def same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether two addresses have the same scheme, host and port."""
    ports = {"http": 80, "https": 443}
    return (one.scheme, one.host, one.port or ports.get(one.scheme)) == (
        other.scheme,
        other.host,
        other.port or ports.get(other.scheme),
    )


def gets_key(url: httpx.URL, server: str) -> bool:
    """Whether a request to this address, such as a link of an answer, is sent with the key: if it is a stored file of
    the server. Nothing else is reached by an address, so that no link can lead the key to another route."""
    return _leads_below(url, httpx.URL(f"{server}/api/v1/storage/images/"))


def is_sendable(value: str) -> bool:
    """Whether this can be the value of a header: printable ASCII, without spaces at its ends."""
    return _HEADER_VALUE.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Config:
    """What a client was made with.

    Attributes:
        url: The server's address, without a slash at the end.
        timeout: Seconds that a call may take with all its tries and pauses.
        silence: Seconds without a byte after which a try is given up.
        headers: Sent with every request to the server.
    """

    url: str
    key: str = field(repr=False)
    timeout: float = 120.0
    silence: float = _SILENCE_SECONDS
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls, url: str | None, key: str | None, *, headers: tuple[tuple[str, str], ...] = (), **more: Any
    ) -> "Config":
        """The arguments, completed from COMPUTE_URL, and COMPUTE_API_KEY or API_KEY.

        White space around a key or a header is removed: both are often read from files.

        Raises:
            ConfigurationError: the address, the key or a header cannot be used, or there is no key. Keys and the
                values of headers are not repeated.
        """
        names = " or ".join(_KEY_VARIABLES)
        found = (key or next(filter(None, map(os.environ.get, _KEY_VARIABLES)), "")).strip()
        if not found:
            raise ConfigurationError(f"no API key: pass `key`, or set {names}")
        if _KEY.fullmatch(found) is None:
            raise ConfigurationError(f"the API key (`key`, {names}) has characters that no key has")
        own = tuple((name, value.strip()) for name, value in headers)
        for name, value in own:
            if _HEADER_NAME.fullmatch(name) is None or not value.isprintable():
                raise ConfigurationError(f"the header `{name}` of `headers` cannot be sent")
        return cls(_address(url or os.environ.get("COMPUTE_URL") or DEFAULT_URL), found, headers=own, **more)

    def options(self, connections: int | None) -> dict[str, Any]:
        """Arguments of an httpx client that speaks to the server by so many connections; None for any number. It
        follows no redirects."""
        own = [(name.encode(), value.encode()) for name, value in self.headers]
        return {
            "base_url": f"{self.url}/api/v1",
            "headers": httpx.Headers([*own, (b"Authorization", f"Bearer {self.key}".encode())]),
            "timeout": self.limits(self.silence),
            "limits": httpx.Limits(max_connections=connections, max_keepalive_connections=_IDLE),
            **transport_options(self.url),
        }

    def limits(self, left: float) -> httpx.Timeout:
        """The timeouts of one try, none longer than what is left of the call."""
        silence = max(0.001, min(self.silence, left))
        return httpx.Timeout(silence, connect=min(_CONNECT_SECONDS, silence), pool=max(0.001, left))


def is_below(url: httpx.URL, server: str) -> bool:
    """Whether an address leads to a route of the API of a server."""
    return _leads_below(url, httpx.URL(f"{server}/api/v1/"))


def _leads_below(url: httpx.URL, folder: httpx.URL) -> bool:
    """Whether an address leads below another one, also if something on the way reads encoded parts as what they are."""
    inside = url.path.startswith(folder.path) and {".", ".."}.isdisjoint(re.split(r"[/\\]", url.path))
    return inside and same_origin(url, folder)


def transport_options(url: str | httpx.URL) -> dict[str, Any]:
    """Arguments of an httpx client for the host of this address: no proxy for loopback, whatever the environment says,
    and without the authorities of the system, which take 20 ms to read, where nothing is encrypted."""
    # A context of TLS still reads SSL_CERT_FILE; whether a proxy is used is another matter.
    found: dict[str, Any] = {"follow_redirects": False, "trust_env": not is_loopback(url)}
    if httpx.URL(url).scheme == "http":
        return found | {"verify": _no_tls()}
    return found if found["trust_env"] else found | {"verify": httpx.create_ssl_context()}


def made(kind: Callable[..., Client], options: Callable[[], Mapping[str, Any]]) -> Client:
    """An httpx client.

    Raises:
        ConfigurationError: the proxies or authorities that the environment names cannot be used.
    """
    try:
        return kind(**options())
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        names = [name for name in os.environ if name.upper() in _OF_ENVIRONMENT]
        if not names:
            raise
        said = f"{' or '.join(sorted(names))} of the environment cannot be used"
        # What looks like an address may hold a password.
        raise ConfigurationError(said if "@" in str(error) else f"{said}: {error}") from error


def _address(text: str) -> str:
    """The address of a server, checked.

    Raises:
        ConfigurationError: it is none.
    """
    address = text.strip().rstrip("/")
    # What stands before a host or behind the path may be a secret.
    shown = address.rpartition("@")[2].partition("?")[0]
    try:
        parsed = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"{shown} is not a valid address: {error}") from error
    if parsed.userinfo:
        # It would be sent instead of the key, and every error would show it.
        raise ConfigurationError("the address of the server (`url`, COMPUTE_URL) must not contain a name or password")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigurationError(f"{shown} is not a valid address: it must begin with http:// or https://")
    if parsed.query or parsed.fragment:
        raise ConfigurationError(f"{shown} is not the address of a server: it must end with a host or a path")
    # The address of the API is as good as that of its server.
    return address.removesuffix(_API)


@cache
def _no_tls() -> ssl.SSLContext:
    """A context that trusts nobody."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
