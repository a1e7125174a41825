"""Name resolution restricted to public addresses."""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address

from aiohttp.abc import AbstractResolver, ResolveResult

from compute.outbound.addresses import AllowedHosts, is_public

__all__ = ["GuardedResolver", "NotPublicError"]

_THREADS = 256
"""The most concurrent look-ups: as many as webhooks in flight. Threads start on demand."""

_Name = tuple[str, socket.AddressFamily]
LookUp = Callable[[str, int, socket.AddressFamily], list[ResolveResult]]


@dataclass(slots=True)
class _Asked:
    """A look-up, and the number of callers that wait for it."""

    job: Future[list[ResolveResult]]
    answer: "asyncio.Future[list[ResolveResult]]"
    waiting: int = 0


class NotPublicError(OSError):
    """The name resolves, but none of its addresses is public."""


class GuardedResolver(AbstractResolver):
    """Resolves names and drops every address that is not public, unless the operator allows the host.

    aiohttp connects to exactly these addresses, without a second look-up that could return another one.
    """

    def __init__(self, allowed: AllowedHosts, look_up: LookUp | None = None) -> None:
        """Exempt the hosts in `allowed`. `look_up` may block; the default is the system's."""
        self._allowed = allowed
        self._look_up = look_up or _look_up
        # Threads of its own: slow name servers, which a user can choose, must delay neither the store's files nor
        # other look-ups.
        self._asked: dict[_Name, _Asked] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve `host` to its allowed addresses.

        Raises:
            NotPublicError: there are addresses, but none of them is allowed.
            OSError: the name does not resolve (socket.gaierror), or not now.
        """
        found = [ResolveResult(**{**one, "port": port}) for one in await self._ask(host, family)]
        usable = found if self._allowed.allows(host, port) else [one for one in found if _may_use(one)]
        if not usable:
            raise NotPublicError("no public address")
        return usable

    async def _ask(self, host: str, family: socket.AddressFamily) -> list[ResolveResult]:
        """Look a name up, once for all concurrent callers: a name that hangs takes one thread, however often it is
        requested. A look-up without waiting callers does not begin."""
        name = host, family
        if name not in self._asked:
            job = self._threads.submit(self._look_up, host, 0, family)
            self._asked[name] = _Asked(job, asyncio.wrap_future(job))
            self._asked[name].answer.add_done_callback(partial(self._answered, name, self._asked[name]))
        asked = self._asked[name]
        asked.waiting += 1
        try:
            return await asyncio.shield(asked.answer)
        finally:
            asked.waiting -= 1
            if not asked.waiting and asked.job.cancel():
                self._forget(name, asked)

    def _answered(self, name: _Name, asked: _Asked, answer: "asyncio.Future[list[ResolveResult]]") -> None:
        self._forget(name, asked)
        if not answer.cancelled():
            # Retrieved even if all callers have gone, so that asyncio does not report it.
            answer.exception()

    def _forget(self, name: _Name, asked: _Asked) -> None:
        if self._asked.get(name) is asked:
            del self._asked[name]

    async def close(self) -> None:
        """Shut the threads down; a look-up that still hangs ends by itself."""
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
