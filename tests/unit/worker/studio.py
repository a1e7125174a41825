"""A replica without Ray and a model: the real run, worker context and store around an easel that can be held."""

import asyncio
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from PIL import Image

from compute.deployments.context import LocalWorkerContext
from compute.schemas.enums import TaskType
from compute.settings import Settings
from compute.storage.base import StoredObject
from compute.storage.local import LocalStore
from compute.tasks.registry import kind_of
from compute.worker.protocol import (
    Artifact,
    Done,
    EncodedImage,
    GenerateRequest,
    ImageModel,
    Job,
    OnStep,
    WorkEvent,
)
from compute.worker.vital_signs import with_vital_signs
from compute.worker.watchdog import Watchdog
from tests.patience import NEVER, PATIENCE

SIDE = 64
Point = tuple[str, int]
"""A stage and the seed of the image in it."""


@dataclass
class Gates:
    """Makes a stage of an image wait, or fail; remembers what began and what ended."""

    began: list[Point] = field(default_factory=list)
    ended: list[Point] = field(default_factory=list)
    most_at_once: Counter[str] = field(default_factory=Counter)
    _errors: dict[Point, BaseException] = field(default_factory=dict)
    _held: dict[Point, threading.Event] = field(default_factory=dict)
    _frozen: set[int] = field(default_factory=set)
    _inside: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, stage: str, seed: int) -> None:
        self._held[stage, seed] = threading.Event()

    def freeze(self, seed: int) -> None:
        """Let the draw of an image make no step."""
        self.hold("draw", seed)
        self._frozen.add(seed)

    def is_frozen(self, seed: int) -> bool:
        return seed in self._frozen

    def let_go(self, stage: str, seed: int) -> None:
        self._held.pop((stage, seed)).set()

    def let_all_go(self) -> None:
        for point in list(self._held):
            self.let_go(*point)

    def fail(self, stage: str, seed: int, error: BaseException) -> None:
        self._errors[stage, seed] = error

    def mend(self, stage: str, seed: int) -> None:
        del self._errors[stage, seed]

    def enter(self, stage: str, seed: int) -> threading.Event | None:
        """Called at the beginning of a stage; what to wait for."""
        with self._lock:
            self.began.append((stage, seed))
            self._inside[stage] += 1
            self.most_at_once[stage] = max(self.most_at_once[stage], self._inside[stage])
        return self._held.get((stage, seed))

    def leave(self, stage: str, seed: int) -> None:
        """Raises what this stage of this image was told to fail with."""
        with self._lock:
            self.ended.append((stage, seed))
            self._inside[stage] -= 1
        if error := self._errors.get((stage, seed)):
            raise error

    def inside(self, stage: str) -> int:
        return self._inside[stage]

    def block(self, stage: str, seed: int) -> None:
        """The whole of a stage that runs in a thread."""
        gate = self.enter(stage, seed)
        try:
            if gate:
                assert gate.wait(PATIENCE)
        finally:
            self.leave(stage, seed)

    async def pause(self, stage: str, seed: int) -> None:
        """The same for a stage on the event loop."""
        gate = self.enter(stage, seed)
        try:
            async with asyncio.timeout(PATIENCE):
                while gate and not gate.is_set():
                    await asyncio.sleep(0.005)
        finally:
            self.leave(stage, seed)


@dataclass
class Easel(ImageModel):
    """Draws one colour per seed. While its draw is held it goes on making steps, so that it can be stopped."""

    gates: Gates
    name: str = "easel"

    def prepare(self, request: GenerateRequest) -> GenerateRequest:
        self.gates.block("prepare", request.seed)
        return request

    def denoise(self, prepared: GenerateRequest, on_step: OnStep) -> GenerateRequest:
        gate = self.gates.enter("draw", prepared.seed)
        try:
            if gate and self.gates.is_frozen(prepared.seed):
                assert gate.wait(PATIENCE)
            for step in range(prepared.steps):
                time.sleep(0.002)
                on_step(step + 1, prepared.steps)
            give_up = time.monotonic() + PATIENCE
            while gate and not gate.is_set():
                assert time.monotonic() < give_up
                time.sleep(0.002)
                on_step(prepared.steps, prepared.steps)
        finally:
            self.gates.leave("draw", prepared.seed)
        return prepared

    def decode(self, latents: GenerateRequest) -> Image.Image:
        self.gates.block("decode", latents.seed)
        return picture(latents.seed)


class GatedStore(LocalStore):
    """A folder whose uploads and downloads can be held. Results are told apart by the task's id, which is the seed."""

    def __init__(self, root: Path, gates: Gates) -> None:
        super().__init__(root)
        self._gates = gates

    async def put(self, path: str, data: bytes | Path, content_type: str) -> StoredObject:
        if path.startswith("generations/"):
            _, task, _, name = path.split("/")
            await self._gates.pause("upload", UUID(task).int + int(name.removesuffix(".png")))
        return await super().put(path, data, content_type)

    async def get(self, path: str) -> bytes:
        if path.startswith("inputs/"):
            await self._gates.pause("fetch", int(path.removeprefix("inputs/").removesuffix(".png")))
        return await super().get(path)


class GatedWorkbench(LocalWorkerContext):
    """The worker context that ships; only its encoding can be held, too."""

    gates: Gates

    async def encode(self, image: Image.Image) -> EncodedImage:
        await self.gates.pause("encode", image.getpixel((0, 0))[0])  # type: ignore[index]
        return await super().encode(image)


@dataclass
class Sitting:
    """One job on its way: what it has said, and how it ended."""

    seed: int
    task: "asyncio.Task[None]"
    events: list[WorkEvent] = field(default_factory=list)

    @property
    def artifacts(self) -> list[Artifact]:
        return [event for event in self.events if isinstance(event, Artifact)]

    @property
    def timings(self) -> dict[str, float]:
        (done,) = [event for event in self.events if isinstance(event, Done)]
        timings: dict[str, float] = done.metadata["timings"]
        return timings

    async def error(self) -> BaseException | None:
        await asyncio.wait([self.task])
        return None if self.task.cancelled() else self.task.exception()


class Studio:
    """Takes jobs, whose id, seed and colour are one number. `finished` is the order in which they said `Done`.

    With a watchdog the jobs say that they live, as those of a replica do.
    """

    def __init__(self, home: Path, watchdog: Watchdog | None = None) -> None:
        settings = Settings(home=home)
        self._watchdog = watchdog or Watchdog()
        self._says_that_it_lives = watchdog is not None
        self.gates = Gates()
        self.store = GatedStore(home / "storage", self.gates)
        self.worker = GatedWorkbench(settings, self.store, Easel(self.gates), "easel#1", watchdog=self._watchdog)
        self.worker.gates = self.gates
        self.finished: list[int] = []
        self._sittings: list[Sitting] = []

    def submit(self, seed: int, **changes: Any) -> Sitting:
        spec = {
            "prompt": "a colour",
            "negative_prompt": None,
            "width": SIDE,
            "height": SIDE,
            "seed": seed,
            "num_outputs": 1,
            "steps": 3,
            "guidance_scale": 3.5,
            "true_cfg_scale": 1.0,
            "reference_image_path": None,
            "reference_image_strength": None,
            "loras": [],
        }
        job = Job(UUID(int=seed), TaskType.GENERATION, 1, spec | changes)
        sitting = Sitting(seed, asyncio.create_task(asyncio.sleep(0)))
        sitting.task = asyncio.create_task(self._watch(job, sitting))
        self._sittings.append(sitting)
        return sitting

    async def _watch(self, job: Job, sitting: Sitting) -> None:
        work = kind_of(job.task_type).run(job, self.worker)
        if self._says_that_it_lives:
            work = with_vital_signs(work, self._watchdog, NEVER)
        async with aclosing(work) as events:
            async for event in events:
                sitting.events.append(event)
                if isinstance(event, Done):
                    self.finished.append(sitting.seed)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.002)

    async def until_in(self, stage: str, seed: int) -> None:
        await self.until(lambda: (stage, seed) in self.gates.began)

    async def give_reference(self, seed: int) -> str:
        path = f"inputs/{seed}.png"
        await self.store.put(path, (await LocalWorkerContext.encode(self.worker, picture(seed))).data, "image/png")
        return path

    async def is_whole(self, sitting: Sitting) -> bool:
        """Whether every image that was announced lies in the store as it should be."""
        for artifact in sitting.artifacts:
            data = await self.store.get(artifact.path)
            expected = await LocalWorkerContext.encode(self.worker, picture(artifact.seed or 0))
            if data != expected.data or artifact.sha256 != hashlib.sha256(data).hexdigest():
                return False
        return bool(sitting.artifacts)

    async def close(self) -> None:
        self.gates.let_all_go()
        for sitting in self._sittings:
            sitting.task.cancel()
        if self._sittings:
            await asyncio.wait([sitting.task for sitting in self._sittings])
        self.worker.stages.close()


def picture(seed: int) -> Image.Image:
    return Image.new("RGB", (SIDE, SIDE), (seed, 255 - seed, 7))


Step = Callable[[Studio], Awaitable[None]]
