"""Run a blocking pipeline call in a thread and watch it from the event loop, step by step."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar

from compute.errors import Interrupted
from compute.tasks.protocol import OnStep

__all__ = ["Stepper"]

T = TypeVar("T")


class Stepper(Generic[T]):
    """`async for done, total in stepper` yields after each step; `stepper.result` is the call's value.

    Closing the iteration early (a cancelled task) makes the call's next `on_step` raise `Interrupted`, and waits
    for that, so that the device is never shared with a call that is still running.
    """

    def __init__(self, call: Callable[[OnStep], T]) -> None:
        self._call = call
        self._stop = threading.Event()
        self.result: T

    async def steps(self) -> AsyncGenerator[tuple[int, int]]:
        """Raises whatever the call raises."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue()

        def on_step(done: int, total: int) -> None:
            if self._stop.is_set():
                raise Interrupted
            loop.call_soon_threadsafe(queue.put_nowait, (done, total))

        work = loop.run_in_executor(None, self._call, on_step)
        work.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (step := await queue.get()) is not None:
                yield step
            self.result = work.result()
        finally:
            self._stop.set()
            if not work.done():
                await asyncio.shield(asyncio.wait([work]))
            if not work.cancelled():
                work.exception()
