"""Detects hung threads of a replica. A blocking call that makes no step for too long is hung, and stays so."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from compute.capacity import to_its_end
from compute.errors import Interrupted, TaskFailed, WorkerLost
from compute.schemas.enums import ErrorCategory

__all__ = ["Moved", "Watchdog", "on_behalf_of"]

_log = logging.getLogger(__name__)
T = TypeVar("T")
Moved = Callable[[], None]
"""Called from a watched call's thread after every step."""

on_behalf_of: ContextVar[object | None] = ContextVar("on_behalf_of", default=None)
"""The owner of the calls made in this context and in tasks created from it."""


@dataclass(eq=False, slots=True)
class _Call:
    """A call in a thread. `moved_at` is None until it has its thread: waiting for a thread is not hanging."""

    what: str
    executor: Executor | None
    outcome: "asyncio.Future[Any]"
    clock: Callable[[], float]
    owner: object | None
    moved_at: float | None = None
    condemned: bool = False
    timer: asyncio.TimerHandle | None = field(default=None)

    def moved(self) -> None:
        self.moved_at = self.clock()

    def end(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


class Watchdog:
    """Watches blocking calls of one process; for one event loop.

    Once a call hangs, the process stays unwell. The call itself fails, so do those that wait for the same thread, and
    the listeners of `told` are called. Calls in other threads go on.

    Example:
        watchdog = Watchdog(seconds=60)
        pixels = await watchdog.run(lambda: decode(latents), what="decoding")
    """

    def __init__(self, seconds: float = math.inf, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`seconds` by `clock`: the longest time between two steps, or for a whole call without steps."""
        self._seconds = seconds
        self._clock = clock
        self._calls: set[_Call] = set()
        self._stuck: set[Executor] = set()
        self._listeners: set[Callable[[object | None], None]] = set()
        self._reason: str | None = None

    @property
    def calls(self) -> int:
        """The number of calls that have not returned yet, including those that wait for a thread."""
        return len(self._calls)

    @property
    def is_unwell(self) -> bool:
        """Whether a call was found to hang."""
        return self._reason is not None

    def check(self) -> None:
        """Raises:
        WorkerLost: a call hangs.
        """
        for call in list(self._calls):
            self._look(call)
        if self._reason is not None:
            raise self.error()

    def error(self) -> WorkerLost:
        """The error for jobs that wait at a replica that is unwell."""
        return WorkerLost(f"The replica is unwell and will be replaced: {self._reason}")

    @contextmanager
    def told(self, listener: Callable[[object | None], None]) -> Iterator[None]:
        """Within the block, call `listener` with the owner of any call that is found to hang."""
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    async def run(self, call: Callable[[], T], *, what: str, executor: Executor | None = None) -> T:
        """Run a call that cannot be stopped in a thread. Cancelled, wait until it returns, or hangs.

        Raises:
            TaskFailed: the call hangs. Whatever it raises itself passes through.
        """
        return await to_its_end(self.start(lambda moved: call(), what=what, executor=executor))

    def start(self, call: Callable[[Moved], T], *, what: str, executor: Executor | None = None) -> "asyncio.Future[T]":
        """Start a call in the one thread of `executor`, or in a thread of the event loop's executor.

        `what` describes the call with a gerund ("decoding"), for error messages. The future ends when the call does,
        or is found to hang (`TaskFailed`), or waits for a thread that hangs (`WorkerLost`). Cancelled before the call
        has a thread, it never gets one.
        """
        loop = asyncio.get_running_loop()
        watched = _Call(what, executor, loop.create_future(), self._clock, on_behalf_of.get())
        if executor in self._stuck:
            watched.end(self.error())
            return watched.outcome
        # The thread's log lines carry the ids of the job that it works for.
        work = loop.run_in_executor(executor, copy_context().run, partial(_work, watched, call))
        work.add_done_callback(partial(self._returned, watched))
        self._calls.add(watched)
        self._look_in(watched, self._seconds)
        return watched.outcome

    def _look_in(self, call: _Call, seconds: float) -> None:
        if seconds < math.inf:
            call.timer = call.outcome.get_loop().call_later(seconds, self._look_again, call)

    def _look_again(self, call: _Call) -> None:
        idle = self._look(call)
        if not call.condemned:
            self._look_in(call, self._seconds - idle)

    def _look(self, call: _Call) -> float:
        """Check one call; returns the seconds since its last step."""
        idle = 0.0 if call.moved_at is None else self._clock() - call.moved_at
        if idle >= self._seconds and not call.condemned:
            self._condemn(call)
        return idle

    def _condemn(self, hung: _Call) -> None:
        hung.condemned = True
        why = f"{hung.what} made no step for {self._seconds:g} s"
        if self._reason is None:
            self._reason = why
            _log.error("a thread hangs, this replica must be replaced: %s", why)
        hung.end(TaskFailed(f"The run hangs: {why}.", category=ErrorCategory.PROVIDER_TIMEOUT))
        if hung.executor is not None:
            self._stuck.add(hung.executor)
            for call in self._calls:
                if call.executor is hung.executor:
                    call.end(self.error())
        for listener in list(self._listeners):
            listener(hung.owner)

    def _returned(self, call: _Call, work: "asyncio.Future[Any]") -> None:
        self._calls.discard(call)
        if call.timer is not None:
            call.timer.cancel()
        error = None if work.cancelled() else work.exception()
        if call.outcome.done():
            return
        if work.cancelled():
            call.outcome.cancel()
        elif error is not None:
            call.outcome.set_exception(error)
        else:
            call.outcome.set_result(work.result())


def _work(watched: _Call, call: Callable[[Moved], T]) -> T:
    # It may have been abandoned while it waited for its thread.
    if watched.outcome.done():
        raise Interrupted
    watched.moved()
    return call(watched.moved)
