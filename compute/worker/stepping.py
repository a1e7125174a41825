"""Runs a blocking pipeline call in a thread and reports its steps to the event loop."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Generic, TypeVar

from compute.errors import Interrupted
from compute.worker.protocol import OnStep
from compute.worker.watchdog import Moved, Watchdog

__all__ = ["Stepper"]

T = TypeVar("T")


class Stepper(Generic[T]):
    """A blocking call in a thread, iterated step by step.

    `async for done, total in stepper.steps()` yields after each step; `stepper.result` is the call's value. Closing the
    iteration early (a cancelled task) makes the call's next `on_step` raise `Interrupted` and waits for that, so that
    the device is never shared with a call that is still running. `seconds` is the duration of the call.
    """

    def __init__(
        self, call: Callable[[OnStep], T], executor: Executor | None = None, watchdog: Watchdog | None = None
    ) -> None:
        """`executor` runs the call; by default it is the event loop's. `watchdog` ends the wait for one that hangs."""
        self._call = call
        self._executor = executor
        self._watchdog = watchdog or Watchdog()
        self._stop = threading.Event()
        self.seconds = 0.0
        self.result: T

    async def steps(self) -> AsyncGenerator[tuple[int, int]]:
        """Start the call and yield (steps done, steps in all). Raises whatever the call raises.

        Raises:
            TaskFailed: the call hangs.
            WorkerLost: another call hangs in the thread that this one waits for.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue()

        def begin(moved: Moved) -> T:
            return self._run(partial(on_step, moved))

        def on_step(moved: Moved, done: int, total: int) -> None:
            moved()
            if self._stop.is_set():
                raise Interrupted
            loop.call_soon_threadsafe(queue.put_nowait, (done, total))

        def ended(work: asyncio.Future[T]) -> None:
            # The error counts as retrieved even if the consumer was cancelled while it waited for the end.
            if not work.cancelled():
                work.exception()
            queue.put_nowait(None)

        work = self._watchdog.start(begin, what="denoising", executor=self._executor)
        work.add_done_callback(ended)
        try:
            while (step := await queue.get()) is not None:
                yield step
            self.result = work.result()
        finally:
            self._stop.set()
            if not work.done():
                await asyncio.shield(asyncio.wait([work]))

    def _run(self, on_step: OnStep) -> T:
        # It may have been stopped while it waited for its thread.
        if self._stop.is_set():
            raise Interrupted
        began = time.perf_counter()
        try:
            return self._call(on_step)
        finally:
            self.seconds = time.perf_counter() - began
