"""The run of a task that generates images: its stages overlap with those of the jobs before and after it."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, aclosing, suppress
from functools import partial
from typing import Any

from compute.errors import Interrupted
from compute.storage.patience import until_back
from compute.worker.clock import StageClock
from compute.worker.inputs import JobInputs
from compute.worker.native import sized_note, wants_native
from compute.worker.protocol import (
    Artifact,
    Done,
    GenerateRequest,
    Job,
    Progress,
    Started,
    WorkerContext,
    WorkEvent,
)
from compute.worker.stages import Staged

__all__ = ["generate_images"]


async def generate_images(
    job: Job, worker: WorkerContext, make_requests: Callable[[JobInputs], Awaitable[Sequence[GenerateRequest]]]
) -> AsyncGenerator[WorkEvent]:
    """Run a generation job: fetch its inputs, then generate one image for each request, in order.

    The next image is prepared while one is denoised; decoding, encoding and storing overlap with the next denoising,
    of this job or another. `Done` is yielded once all jobs that held the device earlier have ended. Closing the
    generator stops the job at its next step, or at the end of its current stage. `timings` are those of `StageClock`.
    """
    clock, inputs = StageClock(), JobInputs(worker)
    requests = await make_requests(inputs)
    clock.lap("fetch")
    model = worker.model_name(requests[0].role)
    images = _Images(job, worker, requests, clock)
    try:
        with ExitStack() as until_done:
            await images.prepare_first()
            async with worker.device():
                clock.lap("wait")
                my_turn = until_done.enter_context(worker.ticket())
                yield Started(executor=worker.executor, model=model)
                async with aclosing(images.generate()) as events:
                    async for event in events:
                        yield event
            # Only after the device is released: it must not wait until the consumer has taken the event.
            yield Progress(1.0)
            async with aclosing(images.saved()) as artifacts:
                async for artifact in artifacts:
                    yield artifact
            await my_turn()
            clock.lap("save")
            made = {"model": model, "versions": dict(worker.versions), "inputs": inputs.hashes}
            yield Done({**made, **images.sized(), **clock.report()})
    finally:
        await images.stop()


class _Images:
    """The images of one job. At most one is prepared ahead; `StageExecutor.room` bounds those not yet stored."""

    def __init__(self, job: Job, worker: WorkerContext, requests: Sequence[GenerateRequest], clock: StageClock) -> None:
        self._job = job
        self._worker = worker
        self._requests = requests
        self._clock = clock
        self._saves: deque[asyncio.Task[Artifact]] = deque()
        self._stopped = asyncio.Event()
        self._native = wants_native(job)
        self._ahead = self._prepare(0)

    async def prepare_first(self) -> None:
        await self._ahead
        self._clock.lap("prepare")

    async def generate(self) -> AsyncGenerator[WorkEvent]:
        """Generate all images while the caller holds the device; yields progress, and artifacts once they are stored.

        Raises what the model raises, and what storing an earlier image raised.
        """
        count = len(self._requests)
        for index, request in enumerate(self._requests):
            prepared = await self._ahead
            self._clock.lap("prepare")
            if index + 1 < count:
                self._ahead = self._prepare(index + 1)
            with await self._worker.stages.room() as room:
                self._clock.lap("blocked")
                stepper = self._worker.stages.denoise(prepared)
                async with aclosing(stepper.steps()) as steps:
                    async for done, total in steps:
                        self._clock.step()
                        if index + 1 < count or done < total:
                            yield Progress((index + done / total) / count)
                        for artifact in self._saved_by_now():
                            yield artifact
                self._clock.lap("draw")
                self._save(index, stepper.result, request.seed, room.pop_all())

    async def saved(self) -> AsyncGenerator[Artifact]:
        """Yield the remaining artifacts, in order."""
        while self._saves:
            await asyncio.wait([self._saves[0]])
            for artifact in self._saved_by_now():
                yield artifact

    async def stop(self) -> None:
        """Start no further stage, and wait for those that have begun: a decoding, an encoding, an upload."""
        self._stopped.set()
        self._ahead.cancel()
        if self._saves:
            await asyncio.wait(self._saves)

    def sized(self) -> dict[str, Any]:
        """Metadata: the size at which all images were generated, if it differs from that of the results."""
        first = self._requests[0]
        asked = first.width, first.height
        return sized_note(self._worker.stages.own_size(first.role, asked), asked) if self._native else {}

    def _prepare(self, index: int) -> asyncio.Task[Staged]:
        stages = self._worker.stages
        ahead = asyncio.create_task(stages.prepare(self._requests[index], native=self._native))
        ahead.add_done_callback(_retrieve)
        return ahead

    def _save(self, index: int, denoised: Staged, seed: int, room: ExitStack) -> None:
        save = asyncio.create_task(self._decode_and_store(index, denoised, seed))
        save.add_done_callback(_retrieve)
        save.add_done_callback(lambda _: room.close())
        self._saves.append(save)

    async def _decode_and_store(self, index: int, denoised: Staged, seed: int) -> Artifact:
        with self._stage("decode"):
            image = await self._worker.stages.decode(denoised)
        with self._stage("encode"):
            encoded = await self._worker.encode(image)
        with self._stage("upload"):
            store = partial(self._worker.store, self._job, index, encoded, seed=seed)
            return await until_back(store, who=f"a result of task {self._job.task_id}", pause=self._pause)

    async def _pause(self, seconds: float) -> None:
        """Raises:
        Interrupted: the job was stopped meanwhile.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
                raise Interrupted

    def _stage(self, name: str) -> AbstractContextManager[None]:
        if self._stopped.is_set():
            raise Interrupted
        return self._clock.beside(name)

    def _saved_by_now(self) -> Iterator[Artifact]:
        while self._saves and self._saves[0].done():
            yield self._saves.popleft().result()


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Mark the task's error as retrieved: a job that failed or was cancelled does not await its other tasks."""
    if not task.cancelled():
        task.exception()
