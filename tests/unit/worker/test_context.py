"""`run_work`: what a type's own coroutine does with one job, and what is left when it is stopped."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from compute.errors import InvalidInput, StorageFailed, TaskFailed
from compute.schemas.enums import TaskType
from compute.worker.context import RunContext, run_work
from compute.worker.protocol import Artifact, Done, GenerateRequest, Job, Progress, Started, WorkEvent
from tests.patience import PATIENCE
from tests.unit.tasks.types.worker import TestWorker, make_worker
from tests.unit.worker.studio import SIDE, Easel, Gates, picture

Work = Callable[[RunContext], Awaitable[None]]


@pytest.fixture
def gates() -> Gates:
    return Gates()


@pytest.fixture
def drawing(tmp_path: Path, gates: Gates) -> TestWorker:
    return make_worker(tmp_path, Easel(gates))


def running(worker: TestWorker, work: Work) -> AsyncGenerator[WorkEvent]:
    return run_work(Job(uuid.uuid4(), TaskType.GENERATION, 1, {}), worker.worker, work)


async def events_of(worker: TestWorker, work: Work) -> list[WorkEvent]:
    async with aclosing(running(worker, work)) as events:
        return [event async for event in events]


def asked(seed: int, steps: int = 2) -> GenerateRequest:
    return GenerateRequest("a dress", SIDE, SIDE, steps, 3.5, seed)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_job_loads_draws_computes_and_publishes(drawing: TestWorker) -> None:
    await drawing.store.put("inputs/one.png", (await drawing.worker.encode(picture(9))).data, "image/png")

    async def work(context: RunContext) -> None:
        image = await context.load("inputs/one.png", field="base_image")
        async with context.device():
            drawn = await context.generate(asked(3), share=(0.0, 0.5))
        mixed = await context.compute(partial(Image.blend, image.convert("RGB"), drawn, 0.5))
        context.progress(0.9)
        await context.publish(mixed, seed=3, image_format="webp")
        context.note(attempts=1)

    events = await events_of(drawing, work)
    started, artifact, done = events[0], next(e for e in events if isinstance(e, Artifact)), events[-1]
    assert started == Started("worker#1", "easel")
    assert [e.fraction for e in events if isinstance(e, Progress)] == [0.25, 0.5, 0.9]
    assert artifact.path.endswith("/1/0.webp")
    assert (await drawing.store.stat(artifact.path)) is not None
    assert isinstance(done, Done)
    assert done.metadata["attempts"] == 1
    assert done.metadata["model"] == "easel"
    assert set(done.metadata["versions"]) >= {"compute", "torch", "diffusers"}
    assert list(done.metadata["inputs"]) == ["inputs/one.png"]
    assert len(done.metadata["inputs"]["inputs/one.png"]) == 64
    assert done.metadata["timings"]["compute_ms"] > 0


async def test_many_requests_come_in_order_with_the_stages_beside_each_other(drawing: TestWorker, gates: Gates) -> None:
    seen: list[Any] = []

    async def work(context: RunContext) -> None:
        async with context.device(), aclosing(context.generate_all([asked(seed) for seed in range(5)])) as images:
            seen.extend([image.getpixel((0, 0)) async for image in images])

    gates.hold("decode", 0)
    working = asyncio.create_task(events_of(drawing, work))
    # The next is drawn and the one after it prepared while the first is still being decoded; no more than that.
    await until(lambda: ("draw", 1) in gates.ended and ("prepare", 2) in gates.ended)
    await asyncio.sleep(0.05)
    assert ("draw", 2) not in gates.began
    gates.let_go("decode", 0)
    events = await working
    assert seen == [picture(seed).getpixel((0, 0)) for seed in range(5)]
    assert [e.fraction for e in events if isinstance(e, Progress)][-1] == 1.0
    assert max(gates.most_at_once.values()) == 1


async def test_stopping_it_stops_the_draw_at_its_next_step_and_frees_the_device(
    drawing: TestWorker, gates: Gates
) -> None:
    async def work(context: RunContext) -> None:
        async with context.device():
            await context.generate(asked(1))

    gates.hold("draw", 1)
    events = running(drawing, work)
    async for event in events:
        if isinstance(event, Progress):
            break
    await events.aclose()
    assert gates.inside("draw") == 0
    assert isinstance((await events_of(drawing, _draw_two))[-1], Done)


async def _draw_two(context: RunContext) -> None:
    async with context.device():
        await context.generate(asked(2))


async def test_a_computation_is_not_left_behind_when_the_job_is_stopped(tmp_path: Path) -> None:
    worker, begun, ended = make_worker(tmp_path), [], []

    def slow() -> None:
        begun.append(True)
        time.sleep(0.2)
        ended.append(True)

    async def work(context: RunContext) -> None:
        async with context.device():
            await context.compute(slow)

    events = running(worker, work)
    assert isinstance(await anext(events), Started)
    await until(lambda: bool(begun))
    await events.aclose()
    assert ended == [True]


async def test_what_the_work_raises_ends_the_run(drawing: TestWorker) -> None:
    async def work(context: RunContext) -> None:
        await context.load("inputs/missing.png", field="base_image")

    with pytest.raises(InvalidInput) as refused:
        await events_of(drawing, work)
    assert refused.value.field == "base_image"


async def test_slots_bound_how_many_jobs_compute_at_a_time(tmp_path: Path) -> None:
    worker, inside, most = make_worker(tmp_path, slots=2), 0, 0

    async def work(context: RunContext) -> None:
        nonlocal inside, most
        async with context.device():
            inside += 1
            most = max(most, inside)
            await until(lambda: most >= 2)
            await asyncio.sleep(0.02)
            inside -= 1

    ends = [events[-1] for events in await asyncio.gather(*(events_of(worker, work) for _ in range(6)))]
    assert all(isinstance(end, Done) for end in ends)
    assert most == 2


async def test_a_worker_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(TaskFailed, match="no model"):
        await events_of(make_worker(tmp_path), _draw_two)


async def test_images_to_look_at_are_no_outputs_and_can_be_loaded_again(drawing: TestWorker) -> None:
    paths: list[str] = []

    async def work(context: RunContext) -> None:
        paths.append(await context.keep("debug/tile-1", picture(9)))
        again = await context.reload(paths[0])
        await context.publish(again)
        assert context.roles == {"draw"}
        assert context.model_name("draw") == context.model_name("edit")

    events = await events_of(drawing, work)
    [artifact] = [event for event in events if isinstance(event, Artifact)]
    assert paths[0].endswith("/1/debug/tile-1.png")
    assert await drawing.store.get(paths[0]) == await drawing.store.get(artifact.path)
    assert isinstance(events[-1], Done)
    assert paths[0] not in events[-1].metadata["inputs"]


async def test_what_the_job_has_stored_may_be_gone(drawing: TestWorker) -> None:
    async def work(context: RunContext) -> None:
        await context.reload("generations/gone.png")

    with pytest.raises(StorageFailed, match="cannot be read"):
        await events_of(drawing, work)


async def test_progress_never_goes_back(drawing: TestWorker) -> None:
    async def work(context: RunContext) -> None:
        for fraction in (0.2, 0.5, 0.1, 0.7):
            context.progress(fraction)

    events = await events_of(drawing, work)
    assert [event.fraction for event in events if isinstance(event, Progress)] == [0.2, 0.5, 0.5, 0.7]
