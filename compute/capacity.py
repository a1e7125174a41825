"""Bounds on concurrent work: a semaphore with a bounded queue, and CPU work in threads."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from compute.errors import Overloaded

__all__ = ["Capacity", "in_thread", "to_its_end"]

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """Run CPU work in a thread. Cancelled, wait for the thread, which cannot be stopped: it holds a core and memory."""
    return await to_its_end(asyncio.ensure_future(asyncio.to_thread(call)))


async def to_its_end(working: "asyncio.Future[T]") -> T:
    """Await a future; if cancelled, still wait until it is done before raising."""
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        while not working.done():
            # A second cancellation ends the wait.
            with suppress(asyncio.CancelledError):
                await asyncio.wait([working])
        if not working.cancelled():
            # Retrieved, so that asyncio does not report it.
            working.exception()
        raise


@dataclass(eq=False, slots=True)
class _Ticket:
    amount: int
    granted: "asyncio.Future[None]"


class Capacity:
    """A semaphore that counts bytes, or jobs, with a bounded queue. First come, first served, so that a large request
    is not starved by small ones. Use it within one event loop.

    Example:
        decoding = Capacity(512 * 2**20, busy="Too many images are being decoded.", waiting=16)
        async with decoding.taken(width * height * 4):
            image = await in_thread(decode)
    """

    def __init__(self, total: int, *, busy: str, waiting: int = 0, seconds: float = 60.0) -> None:
        """Give out `total` at a time; `waiting` requests may queue for `seconds` each. Others are refused: `busy`."""
        self.total = total
        self._free = total
        self._busy = busy
        self._waiting = waiting
        self._seconds = seconds
        self._queue: deque[_Ticket] = deque()

    @property
    def free(self) -> int:
        """The amount that can be taken without waiting."""
        return 0 if self._queue else self._free

    @asynccontextmanager
    async def taken(self, amount: int = 1) -> AsyncIterator[None]:
        """Hold `amount` until the block ends. An amount above the total counts as the total: it runs alone.

        Raises:
            Overloaded: too many are waiting, or it took too long. A caller that is cancelled leaves the queue.
        """
        amount = min(amount, self.total)
        await self._take(amount)
        try:
            yield
        finally:
            self.give_back(amount)

    def check(self, amount: int) -> None:
        """Check that `amount` can be taken without waiting.

        Raises:
            Overloaded: it cannot.
        """
        if amount > self.free:
            raise Overloaded(self._busy)

    def take_now(self, amount: int) -> None:
        """Take `amount` without waiting; `give_back` returns it.

        Raises:
            Overloaded: it is not free.
        """
        self.check(amount)
        self._free -= amount

    def give_back(self, amount: int) -> None:
        """Return what `take_now` took; the request that has waited longest is served first."""
        self._free += amount
        self._grant()

    async def _take(self, amount: int) -> None:
        if amount <= self.free:
            self._free -= amount
            return
        if len(self._queue) >= self._waiting:
            raise Overloaded(self._busy)
        ticket = _Ticket(amount, asyncio.get_running_loop().create_future())
        self._queue.append(ticket)
        try:
            async with asyncio.timeout(self._seconds):
                await ticket.granted
        except TimeoutError:
            self._leave(ticket)
            raise Overloaded(self._busy) from None
        except asyncio.CancelledError:
            self._leave(ticket)
            raise

    def _leave(self, ticket: _Ticket) -> None:
        if ticket in self._queue:
            self._queue.remove(ticket)
            self._grant()
        else:
            # It was granted at the moment when its owner gave up.
            self.give_back(ticket.amount)

    def _grant(self) -> None:
        while self._queue and self._queue[0].amount <= self._free:
            ticket = self._queue.popleft()
            self._free -= ticket.amount
            if not ticket.granted.done():
                ticket.granted.set_result(None)
