"""The general run of a task type: load inputs, compute, generate and publish in any order."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from compute.errors import InvalidInput, StorageFailed
from compute.media.codec import ImageFormat
from compute.storage.patience import until_back
from compute.worker.clock import StageClock
from compute.worker.inputs import JobInputs
from compute.worker.native import sized_note, wants_native
from compute.worker.protocol import (
    Artifact,
    Done,
    EncodedFile,
    GenerateRequest,
    Job,
    Progress,
    Role,
    Said,
    Size,
    Started,
    Ticket,
    VideoRequest,
    WorkerContext,
    WorkEvent,
)

__all__ = ["RunContext", "Share", "run_work"]

T = TypeVar("T")
Share = tuple[float, float]
"""The range (from, to) in [0, 1] over which a call moves the job's progress."""

_WHOLE: Share = (0.0, 1.0)


async def run_work(
    job: Job, worker: WorkerContext, work: Callable[["RunContext"], Awaitable[None]], *, role: Role = "draw"
) -> AsyncGenerator[WorkEvent]:
    """Run `work` on the job and yield its events. `role` names the model that the result is credited to.

    `Done` is yielded once all jobs that held the device earlier have ended. Closing the generator stops the work at
    its next await: denoising at its next step, a computation at its end.

    Example:
        async def tint(context: RunContext) -> None:
            image = await context.load(job.spec["input_image"], field="input_image")
            async with context.device():
                result = await context.compute(lambda: ImageOps.grayscale(image))
            await context.publish(result)

        async for event in run_work(job, worker, tint):
            ...
    """
    with ExitStack() as until_done:
        context = RunContext(job, worker, role, until_done)
        working = asyncio.create_task(context.do(work))
        try:
            while (event := await context.events.get()) is not None:
                yield event
            await working
            yield context.done()
        finally:
            working.cancel()
            await asyncio.wait([working])
            _retrieve(working)


class RunContext:
    """The operations of one job: load, compute, generate, publish. For one coroutine at a time."""

    def __init__(self, job: Job, worker: WorkerContext, role: Role, until_done: ExitStack) -> None:
        self.job = job
        self.events: asyncio.Queue[WorkEvent | None] = asyncio.Queue()
        self.inputs = JobInputs(worker)
        self._worker = worker
        self._role = role
        self._until_done = until_done
        self._my_turn: Ticket | None = None
        self._clock = StageClock(also=("compute",))
        self._outputs = 0
        self._fraction = 0.0
        self._native = wants_native(job)
        self._notes: dict[str, Any] = {}

    @property
    def models_root(self) -> Path:
        """The folder of small models (detectors, segmentation)."""
        return self._worker.models_root

    @property
    def roles(self) -> frozenset[Role]:
        """The roles of this worker's models."""
        return self._worker.roles

    def model_name(self, role: Role) -> str:
        """The name of the worker's model of this role."""
        return self._worker.model_name(role)

    def own_size(self, size: Size) -> Size:
        """The size at which the model generates an image of `size` well; `size` itself if the request has
        `native: false`."""
        return self._worker.stages.own_size(self._role, size) if self._native else size

    async def load(self, path: str, *, field: str) -> Image.Image:
        """Load a stored input; `field` is the request's field that named it.

        Raises:
            InvalidInput: it is gone, or damaged.
        """
        with self._clock.beside("fetch"):
            return await self.inputs.image(path, field=field)

    async def reload(self, path: str) -> Image.Image:
        """Load an image that this job, or an earlier run of its task, has stored.

        Raises:
            StorageFailed: it is gone, or damaged.
        """
        with self._clock.beside("fetch"):
            try:
                return (await self._worker.load_image(path, field="result")).image
            except InvalidInput as error:
                raise StorageFailed(f"What the task has made cannot be read: {error.detail}") from error

    @asynccontextmanager
    async def device(self) -> AsyncGenerator[None]:
        """Hold the device; on a worker without a model, one of its slots. The task becomes EXECUTING."""
        async with AsyncExitStack() as held:
            with self._clock.beside("wait"):
                await held.enter_async_context(self._worker.device())
            if self._my_turn is None:
                self._my_turn = self._until_done.enter_context(self._worker.ticket())
                self.events.put_nowait(Started(self._worker.executor, self._worker.model_name(self._role)))
            yield

    async def generate(
        self, request: GenerateRequest | VideoRequest, *, shown: Size | None = None, share: Share = _WHOLE
    ) -> Any:
        """Prepare, denoise and decode one request while holding the device. Raises what the model raises.

        The metadata records the size at which it was generated if the result shows it at another one: at `shown`,
        which is the request's own size unless the caller resizes the result.
        """
        asked = request.width, request.height
        self.note(**sized_note(self.own_size(asked), shown or asked))
        async with aclosing(self.generate_all([request], share=share)) as generated:
            return await anext(generated)

    async def generate_all(
        self, requests: Sequence[GenerateRequest | VideoRequest], *, share: Share = _WHOLE
    ) -> AsyncGenerator[Any]:
        """The same for many requests; yields the results in order.

        While one is denoised, the next is prepared and the one before decoded. No more than that is in memory, so a
        slow caller holds back the denoising.
        """
        stages, ahead, behind = self._worker.stages, deque[asyncio.Task[Any]](), deque[asyncio.Task[Any]]()
        try:
            for index in range(len(requests)):
                if not ahead:
                    ahead.append(self._prepared(requests[index]))
                prepared = await ahead[0]
                ahead.popleft()
                if index + 1 < len(requests):
                    ahead.append(self._prepared(requests[index + 1]))
                generated = await self._denoised(prepared, index, len(requests), share)
                if behind:
                    yield await behind[0]
                    behind.popleft()
                behind.append(self._beside("decode", stages.decode(generated)))
            for decoding in behind:
                yield await decoding
        finally:
            for unwanted in (*ahead, *behind):
                unwanted.cancel()

    async def compute(self, call: Callable[[], T]) -> T:
        """Do CPU work in a thread. Cancelled, it waits for the thread, which cannot be stopped and holds a core.

        Raises:
            TaskFailed: the call hangs.
        """
        with self._clock.beside("compute"):
            return await self._worker.compute(call)

    def progress(self, fraction: float) -> None:
        """Report how much of the whole job is done, from 0 to 1. It never goes back."""
        self._fraction = max(self._fraction, fraction)
        self.events.put_nowait(Progress(self._fraction))

    async def publish(
        self, image: Image.Image, *, seed: int | None = None, image_format: ImageFormat = "png"
    ) -> Artifact:
        """Encode an image and store it as the job's next output.

        Raises:
            StorageFailed: the object store refused it, or could not be reached.
        """
        index = self._next_output()
        with self._clock.beside("encode"):
            encoded = await self._worker.encode(image, image_format)
        with self._clock.beside("upload"):
            store = partial(self._worker.store, self.job, index, encoded, seed=seed)
            return self._published(await until_back(store, who=f"a result of task {self.job.task_id}"))

    async def publish_file(
        self, file: Path, content_type: str, *, width: int, height: int, seed: int | None = None
    ) -> Artifact:
        """Store a file on local disk as the job's next output; it stays the caller's to remove.

        Raises:
            StorageFailed: the object store refused it, or could not be reached.
        """
        encoded = EncodedFile(file, content_type, width, height)
        with self._clock.beside("upload"):
            store = partial(self._worker.store_file, self.job, self._next_output(), encoded, seed=seed)
            return self._published(await until_back(store, who=f"a result of task {self.job.task_id}"))

    async def keep(self, name: str, image: Image.Image) -> str:
        """Store an image with the job's outputs that is none of them, such as `debug/tile-1`; its path.

        Raises:
            StorageFailed: the object store refused it, or could not be reached.
        """
        encoded = await self._worker.encode(image)
        return await until_back(
            partial(self._worker.store_beside, self.job, name, encoded), who=f"{name} of task {self.job.task_id}"
        )

    def publish_stored(self, artifact: Artifact) -> Artifact:
        """Make a file that is in the object store already the job's next output."""
        self._next_output()
        return self._published(artifact)

    def say(self, text: str) -> None:
        """Report a part of the job's text as it comes; the whole is in its result."""
        self.events.put_nowait(Said(text))

    def note(self, **metadata: Any) -> None:
        """Add metadata to the result: JSON values."""
        self._notes |= metadata

    async def do(self, work: Callable[["RunContext"], Awaitable[None]]) -> None:
        """Do the whole work, and end the events however it ends."""
        try:
            await work(self)
            if self._my_turn is not None:
                await self._my_turn()
        finally:
            self._clock.end()
            self.events.put_nowait(None)

    def done(self) -> Done:
        made = {"model": self._worker.model_name(self._role), "versions": dict(self._worker.versions)}
        return Done({**made, "inputs": self.inputs.hashes, **self._notes, **self._clock.report()})

    async def _denoised(self, prepared: Any, index: int, count: int, share: Share) -> Any:
        stepper = self._worker.stages.denoise(prepared)
        with self._clock.beside("draw"):
            async with aclosing(stepper.steps()) as steps:
                async for done, total in steps:
                    self._clock.step()
                    self.progress(share[0] + (share[1] - share[0]) * (index + done / total) / count)
        return stepper.result

    def _prepared(self, request: GenerateRequest | VideoRequest) -> "asyncio.Task[Any]":
        return self._beside("prepare", self._worker.stages.prepare(request, native=self._native))

    def _beside(self, stage: str, work: Awaitable[T]) -> "asyncio.Task[T]":
        async def timed() -> T:
            with self._clock.beside(stage):
                return await work

        task = asyncio.create_task(timed())
        task.add_done_callback(_retrieve)
        return task

    def _next_output(self) -> int:
        self._outputs += 1
        return self._outputs - 1

    def _published(self, artifact: Artifact) -> Artifact:
        self.events.put_nowait(artifact)
        return artifact


def _retrieve(task: "asyncio.Future[Any]") -> None:
    """Mark the task's error as retrieved: it is raised where the task is awaited, or no longer of interest."""
    if not task.cancelled():
        task.exception()
