"""The stages of one replica: what its jobs do beside each other, how much of it, and in which order they end."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar

from compute.tasks.protocol import Latents, LoraSelection, Prepared, StagedModel, TakesLoras, Turn
from compute.tasks.stepping import Stepper

__all__ = ["UNSAVED_IMAGES", "Stages"]

T = TypeVar("T")

UNSAVED_IMAGES = 4
"""Images that may be drawn and not yet stored. Uploads mostly wait, so a few go on at once; a store that cannot keep
up holds back the next draw instead of filling the memory (50 MB for an image of 4096 x 4096)."""


class Stages:
    """Each stage of the model has one thread of its own.

    So two calls of a stage never overlap, those who wait are served in turn, and a call that nobody waits for any
    more keeps the next one out until it has ended. CUDA graphs need it, too: they belong to the thread that made them.
    """

    def __init__(self, model: StagedModel, *, unsaved_images: int = UNSAVED_IMAGES) -> None:
        self._model = model
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="preparing")
        self._drawing = ThreadPoolExecutor(1, thread_name_prefix="drawing")
        self._decoding = ThreadPoolExecutor(1, thread_name_prefix="decoding")
        # asyncio's lock and semaphore are first come, first served, which keeps the Dispatcher's order.
        self._device = asyncio.Lock()
        self._places = asyncio.Semaphore(unsaved_images)
        self._line: deque[asyncio.Event] = deque()

    def warm_up(self, request: Any) -> None:
        """Draw an image in the threads that will draw all others. Blocks, and raises what the stages raise."""
        prepared = self._preparing.submit(self._model.prepare, request).result()
        latents = self._drawing.submit(self._model.draw, prepared, lambda done, total: None).result()
        self._decoding.submit(self._model.decode, latents).result()

    @property
    def takes_loras(self) -> bool:
        return isinstance(self._model, TakesLoras)

    async def prefetch(self, loras: Sequence[LoraSelection]) -> bool:
        """Whether the model has these LoRAs at hand now. The stages' threads go on meanwhile.

        Raises:
            InvalidInput: a file is damaged or does not fit.
        """
        model = self._model
        return isinstance(model, TakesLoras) and await asyncio.to_thread(model.prefetch, loras)

    async def prepare(self, request: Any) -> Prepared:
        return await _run(self._preparing, partial(self._model.prepare, request))

    @asynccontextmanager
    async def device(self) -> AsyncGenerator[None]:
        """Exclusive use of the device, for as many draws as the job has."""
        async with self._device:
            yield

    async def room(self) -> ExitStack:
        """Room for one more drawn image, once the store has caught up; closed when that image is stored, or dropped."""
        await self._places.acquire()
        room = ExitStack()
        room.callback(self._places.release)
        return room

    def draw(self, prepared: Prepared) -> Stepper[Latents]:
        """The draw, not yet begun. Hold the device and a `room`."""
        return Stepper(partial(self._model.draw, prepared), self._drawing)

    async def decode(self, latents: Latents) -> Any:
        return await _run(self._decoding, partial(self._model.decode, latents))

    @contextmanager
    def place(self) -> Iterator[Turn]:
        """A place in the line of those who have held the device, taken while holding it.

        Await the value to be the first of them: all who came before have left, done, failed or cancelled.
        """
        mine = asyncio.Event()
        self._line.append(mine)
        self._call_the_first()
        try:
            yield mine.wait
        finally:
            self._line.remove(mine)
            self._call_the_first()

    def close(self) -> None:
        """End the threads once they are idle."""
        for threads in (self._preparing, self._drawing, self._decoding):
            threads.shutdown(wait=False)

    def _call_the_first(self) -> None:
        if self._line:
            self._line[0].set()


async def _run(thread: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(thread, call)
