"""The stages of one replica: runs prepare, denoise and decode in a thread each and keeps the order of the jobs."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from compute.worker.native import SizedRequest
from compute.worker.protocol import ChoosesSize, LoraSelection, OnStep, Role, Size, StagedModel, TakesLoras, Ticket
from compute.worker.stepping import Stepper
from compute.worker.watchdog import Watchdog

__all__ = ["UNSAVED_IMAGES", "StageExecutor", "Staged"]

T = TypeVar("T")

UNSAVED_IMAGES = 4
"""Images that may be denoised and not yet stored. Uploads mostly wait, so a few run at once; a store that cannot keep
up holds back the next denoising instead of filling the memory (50 MB for an image of 4096 x 4096)."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A request between two stages; `value` is the model's output of the last stage."""

    sized: SizedRequest
    value: Any


class StageExecutor:
    """Runs each stage of the model in one thread of its own.

    Two calls of a stage therefore never overlap, waiting calls are served in order, and an abandoned call keeps the
    next one out until it has ended. CUDA graphs need this, too: they belong to the thread that made them.

    An image of a size that does not suit the model is generated at a native size of the model and then resized to the
    requested size.

    A thread that hangs is lost: its call fails, and so does every other call that needs it. The device is no longer
    given out.

    Example:
        stages = StageExecutor(model)
        prepared = await stages.prepare(request)
        async with stages.device():
            stepper = stages.denoise(prepared)
            async for done, total in stepper.steps():
                print(f"{done} of {total} steps")
        image = await stages.decode(stepper.result)
    """

    def __init__(
        self, model: StagedModel, *, unsaved_images: int = UNSAVED_IMAGES, watchdog: Watchdog | None = None
    ) -> None:
        self._model = model
        self._watchdog = watchdog or Watchdog()
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="preparing")
        self._denoising = ThreadPoolExecutor(1, thread_name_prefix="denoising")
        self._decoding = ThreadPoolExecutor(1, thread_name_prefix="decoding")
        # asyncio's lock and semaphore are first come, first served, which keeps the Dispatcher's order.
        self._device = asyncio.Lock()
        self._slots = asyncio.Semaphore(unsaved_images)
        self._line: deque[asyncio.Event] = deque()

    def warm_up(self, request: Any) -> None:
        """Generate one image in the stages' threads. Blocks, and raises what the stages raise."""
        prepared = self._preparing.submit(self._prepare, self._sized(request, True)).result()
        denoised = self._denoising.submit(self._denoise, prepared, lambda done, total: None).result()
        self._decoding.submit(self._decode, denoised).result()

    @property
    def takes_loras(self) -> bool:
        return isinstance(self._model, TakesLoras)

    async def prefetch(self, loras: Sequence[LoraSelection]) -> bool:
        """Load LoRAs into the model's memory in advance; True if they stay. The stages' threads go on meanwhile.

        Raises:
            InvalidInput: a file is damaged or does not fit.
        """
        model = self._model
        if not isinstance(model, TakesLoras):
            return False
        return await self._watchdog.run(partial(model.prefetch, loras), what="fetching a LoRA in advance")

    def own_size(self, role: Role, size: Size) -> Size:
        """The native size at which the model of this role generates an image of `size`."""
        return self._model.own_size(role, size) if isinstance(self._model, ChoosesSize) else size

    async def prepare(self, request: Any, *, native: bool = True) -> Staged:
        """Prepare a request. `native`: generate at a native size of the model; False: at the request's own size."""
        return await self._run(self._preparing, partial(self._prepare, self._sized(request, native)), "preparing")

    @asynccontextmanager
    async def device(self) -> AsyncGenerator[None]:
        """Exclusive use of the device, for as many images as the job has.

        Raises:
            WorkerLost: a thread hangs, which may be the one that denoises.
        """
        async with self._device:
            self._watchdog.check()
            yield

    async def room(self) -> ExitStack:
        """Wait for room for one more denoised image. Close it when that image is stored, or dropped."""
        await self._slots.acquire()
        room = ExitStack()
        room.callback(self._slots.release)
        return room

    def denoise(self, prepared: Staged) -> Stepper[Staged]:
        """The denoising, not yet begun. The caller holds the device and a `room`."""
        return Stepper(partial(self._denoise, prepared), self._denoising, self._watchdog)

    async def decode(self, denoised: Staged) -> Any:
        """Decode the image, or the frames, at exactly the requested size."""
        return await self._run(self._decoding, partial(self._decode, denoised), "decoding")

    @contextmanager
    def ticket(self) -> Iterator[Ticket]:
        """A ticket in the line of jobs that have held the device; taken while holding it.

        Awaiting the value returns once the ticket is the first in line: all jobs before have completed, failed or been
        cancelled.
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
        """Shut the threads down once they are idle."""
        for threads in (self._preparing, self._denoising, self._decoding):
            threads.shutdown(wait=False)

    def _sized(self, request: Any, native: bool) -> SizedRequest:
        asked = request.width, request.height
        return SizedRequest.at(request, self.own_size(request.role, asked) if native else asked)

    def _prepare(self, sized: SizedRequest) -> Staged:
        return Staged(sized, self._model.prepare(sized.request))

    def _denoise(self, prepared: Staged, on_step: OnStep) -> Staged:
        return Staged(prepared.sized, self._model.denoise(prepared.value, on_step))

    def _decode(self, denoised: Staged) -> Any:
        return denoised.sized.finished(self._model.decode(denoised.value))

    def _call_the_first(self) -> None:
        if self._line:
            self._line[0].set()

    async def _run(self, thread: ThreadPoolExecutor, call: Callable[[], T], what: str) -> T:
        return await self._watchdog.start(lambda moved: call(), what=what, executor=thread)
