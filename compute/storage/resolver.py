"""Name resolution that only ever answers with addresses we may connect to."""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from aiohttp.abc import AbstractResolver, ResolveResult

from compute.storage.addresses import AllowedHosts, is_public

__all__ = ["GuardedResolver", "NotPublicError"]

_THREADS = 256
"""As many look-ups at once as there may be webhooks on their way. They begin when they are needed."""

_Name = tuple[str, int, socket.AddressFamily]
LookUp = Callable[[str, int, socket.AddressFamily], list[ResolveResult]]


class NotPublicError(OSError):
    """The name resolves, and to nothing but addresses that are not public."""


class GuardedResolver(AbstractResolver):
    """Resolves names and drops every address that is not public, unless the operator allows the host.

    aiohttp connects to exactly these addresses, so no second look-up can bring another one in.
    """

    def __init__(self, allowed: AllowedHosts, look_up: LookUp | None = None) -> None:
        """Exempt the hosts in `allowed`. `look_up` may block; it is the system's own unless another one is given."""
        self._allowed = allowed
        self._look_up = look_up or _look_up
        # Threads of its own: slow name servers, which a user can choose, must hold up neither the store's files nor
        # the look-ups of others.
        self._asking: dict[_Name, asyncio.Future[list[ResolveResult]]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of `host` that may be connected to.

        Raises:
            NotPublicError: there are addresses, but none of them may be connected to.
            OSError: the name does not resolve (socket.gaierror), or not now.
        """
        found = await self._asked(host, port, family)
        usable = found if self._allowed.allows(host, port) else [one for one in found if _may_use(one)]
        if not usable:
            raise NotPublicError("no public address")
        return usable

    async def _asked(self, host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        """Who asks for a name that is being looked up waits for the same answer: a name that hangs has one thread,
        however often it is asked for."""
        name = host, port, family
        if name not in self._asking:
            loop = asyncio.get_running_loop()
            asking = loop.run_in_executor(self._threads, self._look_up, host, port, family)
            asking.add_done_callback(lambda done: self._answered(name, done))
            self._asking[name] = asking
        return await asyncio.shield(self._asking[name])

    def _answered(self, name: _Name, asking: "asyncio.Future[list[ResolveResult]]") -> None:
        del self._asking[name]
        if not asking.cancelled():
            # Seen, though everybody who asked may have gone.
            asking.exception()

    async def close(self) -> None:
        """Let the threads end; a look-up that still hangs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    try:
        answers = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        # The IDNA codec refuses a label that is empty or too long before any server is asked.
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from error
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=port,
            family=kind,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for kind, _, protocol, _, address in answers
    ]


def _may_use(answer: ResolveResult) -> bool:
    return "%" not in answer["host"] and is_public(ip_address(answer["host"]))
