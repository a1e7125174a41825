"""The HTTP client for addresses named by users: fetches media and calls webhooks."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from compute.errors import FileAway, InvalidInput, Unavailable
from compute.outbound.addresses import AllowedHosts, is_public, literal_address
from compute.outbound.post import PostClient, PostFailed, PostResult
from compute.outbound.resolver import GuardedResolver, NotPublicError
from compute.storage.files import disk_failure

__all__ = ["Fetched", "GuardedClient"]

MAX_REDIRECTS = 5
MAX_URL_CHARACTERS = 8192
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LATER = frozenset({403, 404, 408, 410, 425, 429})
"""A link may have expired, or not be there yet."""
_HEADERS = {"User-Agent": "compute", "Accept-Encoding": "identity"}
# One message for a private address and for a name that does not exist: a difference would reveal the network.
_NOT_PUBLIC = "The host does not resolve to a public address."


@dataclass(frozen=True, slots=True)
class Fetched:
    """A downloaded body and the content type claimed by its server."""

    body: bytes
    content_type: str


class GuardedClient:
    """HTTP(S) to public addresses, and to the hosts that the operator allows.

    It connects to exactly the addresses that it has checked, so a name that changes its addresses meanwhile gains
    nothing. Proxies from the environment, cookies and credentials in URLs are not used. Use it within one event loop,
    and close it.

    Example:
        async with GuardedClient(allowed_hosts=["files.internal:9000"]) as client:
            fetched = await client.fetch(url, max_bytes=20_000_000, field="base_image_url")
    """

    def __init__(self, allowed_hosts: Iterable[str] = (), timeout: float = 15.0) -> None:
        """Exempt `allowed_hosts` (`host` or `host:port`); `timeout` in seconds bounds each whole exchange."""
        self._allowed = AllowedHosts(allowed_hosts)
        self._timeout = timeout
        self._resolver = GuardedResolver(self._allowed)
        self._session: aiohttp.ClientSession | None = None
        self._posts = PostClient(self._resolver)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. The client cannot be used afterwards."""
        if self._session is not None:
            await self._session.close()
        await self._posts.close()
        await self._resolver.close()

    async def fetch(self, url: str, *, max_bytes: int, field: str) -> Fetched:
        """GET the URL, following at most 5 redirects, each of them checked like the first.

        Raises:
            InvalidInput: the URL is malformed or leads to an address that is not public, the response is not 200, or
                is larger than `max_bytes`. `field` names the request's field.
            FileAway: the response takes longer than the timeout or breaks off, or the server is unwell.
        """
        async with self._file(url, self._timeout, field) as response:
            return Fetched(await _read_all(response, max_bytes, field), response.content_type)

    async def download(self, url: str, destination: Path, *, max_bytes: int, timeout: float, field: str) -> None:
        """As `fetch`, but streamed into a new local file, for content that is too large for memory.

        `timeout`, in seconds, replaces the client's.

        Raises:
            InvalidInput, FileAway: as `fetch`.
            StorageFailed: this machine's disk is full, or fails.
        """
        async with self._file(url, timeout, field) as response:
            await _write_all(_chunks(response, max_bytes, field), destination)

    async def receive(
        self,
        url: str,
        destination: Callable[[], Path],
        *,
        in_memory: int,
        max_bytes: int,
        timeout: float,
        field: str,
    ) -> bytes | Path:
        """As `download`, but what has at most `in_memory` bytes is returned and no file is made; else its path, which
        `destination` gives.

        Raises:
            InvalidInput, FileAway, StorageFailed: as `download`.
        """
        async with self._file(url, timeout, field) as response:
            body, chunks = bytearray(), _chunks(response, max_bytes, field)
            async for chunk in chunks:
                body += chunk
                if len(body) > in_memory:
                    path = destination()
                    await _write_all(chunks, path, begin=bytes(body))
                    return path
            return bytes(body)

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout: float | None = None,
        *,
        field: str = "url",
    ) -> PostResult:
        """POST the body once, without following redirects. `timeout` in seconds replaces the client's.

        Raises:
            InvalidInput: the URL is malformed or leads to an address that is not public.
            Unavailable: the name did not resolve, there was no response in time, or the connection broke before one.
        """
        target = self._checked(url, field)
        async with _as_unavailable(field):
            return await self._posts.post(target, body, {**_HEADERS, **headers}, timeout or self._timeout)

    async def check_url(self, url: str, field: str) -> None:
        """Check the syntax of a URL and the current addresses of its host. Later calls check again.

        Raises:
            InvalidInput: `fetch` or `post` would refuse the URL.
        """
        target = self._checked(url, field)
        host, port = _host_and_port(target)
        if _is_literal(host):
            return
        async with _as_invalid_input(field), asyncio.timeout(self._timeout):
            await self._resolver.resolve(host, port)

    @asynccontextmanager
    async def _file(self, url: str, timeout: float, field: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response that is a file. The block must end within `timeout`; it raises what `fetch` does."""
        async with (
            _as_invalid_input(field),
            asyncio.timeout(timeout),
            await self._follow(self._checked(url, field), field) as response,
        ):
            if response.status != 200:
                kind = FileAway if response.status >= 500 or response.status in _LATER else InvalidInput
                raise kind(f"The server answered {response.status} instead of a file.", field=field)
            yield response

    async def _follow(self, url: URL, field: str) -> aiohttp.ClientResponse:
        """Follow redirects to the first other response; the caller closes it."""
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._connections().get(url, headers=_HEADERS, allow_redirects=False)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                return response
            # Closed, not drained: its body may have no end.
            response.close()
            url = self._checked(_join(url, location, field), field)
        raise InvalidInput(f"More than {MAX_REDIRECTS} redirects.", field=field)

    def _checked(self, url: str, field: str) -> URL:
        """Parse the URL, and check a host that is an address: aiohttp passes only names to the resolver."""
        target = _parse(url, field)
        host, port = _host_and_port(target)
        if self._allowed.allows(host, port):
            return target
        try:
            address = literal_address(host)
        except ValueError as error:
            raise InvalidInput("The host is not a usual spelling of a name or an address.", field=field) from error
        if address is not None and not is_public(address):
            raise InvalidInput(_NOT_PUBLIC, field=field)
        return target

    def _connections(self) -> aiohttp.ClientSession:
        # Opened on first use, because a session belongs to the running event loop.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=self._resolver, use_dns_cache=False, family=socket.AF_UNSPEC, limit_per_host=32
                ),
                # No timeout of aiohttp's: the deadline has to span all redirects.
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
            )
        return self._session


def _parse(url: str, field: str) -> URL:
    if len(url) > MAX_URL_CHARACTERS:
        raise InvalidInput(f"A URL is at most {MAX_URL_CHARACTERS} characters long.", field=field)
    if any(character.isspace() or not character.isprintable() for character in url):
        raise InvalidInput("A URL cannot hold spaces or control characters.", field=field)
    try:
        # A URL in ASCII is sent unchanged: quoting it again would break the signatures of presigned links.
        parsed = URL(url, encoded=url.isascii())
        # Read here, because only reading it detects a port that is not a number.
        port = parsed.port
    except ValueError as error:
        raise InvalidInput("Not a valid URL.", field=field) from error
    if parsed.scheme not in {"http", "https"}:
        raise InvalidInput("A URL starts with http:// or https://.", field=field)
    if not parsed.raw_host or port == 0:
        raise InvalidInput("The URL has no host, or an impossible port.", field=field)
    if "@" in url.split("://", 1)[1].split("/", 1)[0]:
        raise InvalidInput("A URL cannot hold credentials.", field=field)
    return parsed


def _host_and_port(url: URL) -> tuple[str, int]:
    return url.raw_host or "", url.port or 0


def _is_literal(host: str) -> bool:
    try:
        return literal_address(host) is not None
    except ValueError:
        return True


def _join(base: URL, location: str, field: str) -> str:
    try:
        return urljoin(str(base), location)
    except ValueError as error:
        raise InvalidInput("The server redirects to something that is not a URL.", field=field) from error


async def _read_all(response: aiohttp.ClientResponse, max_bytes: int, field: str) -> bytes:
    body = bytearray()
    async for chunk in _chunks(response, max_bytes, field):
        body += chunk
    return bytes(body)


async def _write_all(chunks: AsyncIterator[bytes], destination: Path, *, begin: bytes = b"") -> None:
    """Write `begin`, and what comes after it."""
    try:
        file = await asyncio.to_thread(destination.open, "xb")
    except OSError as error:
        raise disk_failure("writing", "a download", error) from error
    with file:
        await _write(file, begin)
        async for chunk in chunks:
            await _write(file, chunk)


async def _write(file: BinaryIO, chunk: bytes) -> None:
    try:
        await asyncio.to_thread(file.write, chunk)
    except OSError as error:
        raise disk_failure("writing", "a download", error) from error


async def _chunks(response: aiohttp.ClientResponse, max_bytes: int, field: str) -> AsyncIterator[bytes]:
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise InvalidInput("The server compresses the file though it was asked not to.", field=field)
    too_large = InvalidInput(f"The file is larger than {max_bytes} bytes.", field=field)
    if (response.content_length or 0) > max_bytes:
        raise too_large
    received = 0
    async for chunk in response.content.iter_any():
        received += len(chunk)
        if received > max_bytes:
            raise too_large
        yield chunk


@asynccontextmanager
async def _as_invalid_input(field: str) -> AsyncIterator[None]:
    """Report every failure to get a file named by the user as `InvalidInput`, without internal details."""
    try:
        yield
    except TimeoutError as error:
        raise FileAway("The server took too long.", field=field) from error
    except NotPublicError as error:
        raise InvalidInput(_NOT_PUBLIC, field=field) from error
    except (aiohttp.ClientConnectorDNSError, socket.gaierror) as error:
        # The same words; that a name is unknown may pass.
        private = isinstance(getattr(error, "os_error", None), NotPublicError)
        raise (InvalidInput if private else FileAway)(_NOT_PUBLIC, field=field) from error
    except (aiohttp.ClientError, OSError) as error:
        raise FileAway("The file could not be downloaded: the connection failed.", field=field) from error


@asynccontextmanager
async def _as_unavailable(field: str) -> AsyncIterator[None]:
    """Report a failed POST as `Unavailable`, because it may succeed later, unless its address is not allowed."""
    try:
        yield
    except TimeoutError as error:
        raise Unavailable("The receiver took too long.") from error
    except NotPublicError as error:
        raise InvalidInput(_NOT_PUBLIC, field=field) from error
    except socket.gaierror as error:
        raise Unavailable(_NOT_PUBLIC) from error
    except (PostFailed, OSError) as error:
        raise Unavailable("The connection to the receiver failed.") from error
