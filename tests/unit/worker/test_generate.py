"""Jobs of one replica beside each other: what overlaps, how much of it, in which order they end, and what a neighbour
that fails or is cancelled leaves behind."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from compute.errors import InvalidInput, OutOfMemory, StorageAway, StorageFailed
from compute.worker.protocol import Artifact, Done, Progress, Started
from compute.worker.stages import UNSAVED_IMAGES
from tests.patience import PATIENCE
from tests.unit.worker.studio import Sitting, Studio


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    studio = Studio(tmp_path)
    yield studio
    await studio.close()


async def test_a_run_tells_its_story_in_order(studio: Studio) -> None:
    sitting = studio.submit(1, num_outputs=2)
    await sitting.task
    kinds = [type(event) for event in sitting.events]
    assert kinds[0] is Started
    assert kinds[-1] is Done
    fractions = [event.fraction for event in sitting.events if isinstance(event, Progress)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert 0.5 in fractions
    assert [artifact.seed for artifact in sitting.artifacts] == [1, 2]
    assert await studio.is_whole(sitting)


@pytest.mark.parametrize("stage", ["decode", "encode", "upload"])
async def test_the_next_job_is_drawn_while_this_one_is_still_being_saved(studio: Studio, stage: str) -> None:
    studio.gates.hold(stage, 1)
    one, two = studio.submit(1), studio.submit(2)
    await studio.until(lambda: ("draw", 2) in studio.gates.ended)
    assert (stage, 1) not in studio.gates.ended
    studio.gates.let_all_go()
    await asyncio.gather(one.task, two.task)
    assert await studio.is_whole(one)
    assert await studio.is_whole(two)


async def test_the_next_job_fetches_and_prepares_while_this_one_is_drawn(studio: Studio) -> None:
    reference = await studio.give_reference(2)
    studio.gates.hold("draw", 1)
    one, two = studio.submit(1), studio.submit(2, reference_image_path=reference)
    await studio.until_in("draw", 1)
    await studio.until(lambda: ("prepare", 2) in studio.gates.ended)
    assert ("fetch", 2) in studio.gates.ended
    assert ("draw", 1) not in studio.gates.ended
    assert ("draw", 2) not in studio.gates.began
    studio.gates.let_all_go()
    await asyncio.gather(one.task, two.task)


async def test_one_job_prepares_its_next_image_while_it_draws(studio: Studio) -> None:
    studio.gates.hold("draw", 1)
    sitting = studio.submit(1, num_outputs=3)
    await studio.until_in("prepare", 2)
    assert ("prepare", 3) not in studio.gates.began, "only one ahead"
    studio.gates.let_all_go()
    await sitting.task


async def test_every_stage_has_one_user_at_a_time(studio: Studio) -> None:
    sittings = [studio.submit(seed, num_outputs=2) for seed in range(1, 17, 2)]
    await asyncio.gather(*(sitting.task for sitting in sittings))
    most = studio.gates.most_at_once
    assert (most["prepare"], most["draw"], most["decode"]) == (1, 1, 1)
    assert studio.finished == [seed for stage, seed in studio.gates.began if stage == "draw" and seed % 2]


async def test_done_is_said_in_the_order_of_the_device(studio: Studio) -> None:
    studio.gates.hold("upload", 1)
    sittings = [studio.submit(seed) for seed in (1, 2, 3)]
    await studio.until(lambda: len(sittings[2].artifacts) == 1)
    assert studio.finished == []
    studio.gates.let_go("upload", 1)
    await asyncio.gather(*(sitting.task for sitting in sittings))
    assert studio.finished == [1, 2, 3]


async def test_a_store_that_cannot_keep_up_holds_back_the_next_draw_and_that_shows(studio: Studio) -> None:
    seeds = range(1, UNSAVED_IMAGES + 4)
    for seed in seeds:
        studio.gates.hold("upload", seed)
    sittings = [studio.submit(seed) for seed in seeds]
    await studio.until(lambda: studio.gates.inside("upload") == UNSAVED_IMAGES)
    await studio.until(lambda: ("prepare", seeds[UNSAVED_IMAGES]) in studio.gates.ended)
    await asyncio.sleep(0.1)
    drawn = [seed for stage, seed in studio.gates.began if stage == "draw"]
    assert drawn == list(seeds)[:UNSAVED_IMAGES]
    studio.gates.let_all_go()
    await asyncio.gather(*(sitting.task for sitting in sittings))
    assert studio.gates.most_at_once["upload"] <= UNSAVED_IMAGES
    assert studio.finished == list(seeds)
    assert sittings[0].timings["blocked_ms"] < sittings[UNSAVED_IMAGES].timings["blocked_ms"]


async def test_timings_name_every_stage_and_add_up(studio: Studio) -> None:
    sitting = studio.submit(1)
    await sitting.task
    done = sitting.events[-1]
    assert isinstance(done, Done)
    timings = sitting.timings
    in_turn = {"fetch_ms", "prepare_ms", "wait_ms", "blocked_ms", "draw_ms", "save_ms"}
    assert timings.keys() == in_turn | {"decode_ms", "encode_ms", "upload_ms"}
    assert abs(sum(timings[name] for name in in_turn) - done.metadata["timing_ms"]) <= 1
    assert timings["draw_ms"] >= 6


STAGES = ["fetch", "prepare", "draw", "decode", "encode", "upload"]


async def _three_jobs_the_middle_one_held(studio: Studio, stage: str) -> list[Sitting]:
    """Jobs 1, 2 and 3; job 2 stands in `stage`, job 1 is being stored, job 3 comes behind."""
    reference = await studio.give_reference(2)
    studio.gates.hold("upload", 1)
    studio.gates.hold(stage, 2)
    first = studio.submit(1)
    await studio.until_in("upload", 1)
    second = studio.submit(2, reference_image_path=reference)
    await studio.until_in(stage, 2)
    return [first, second, studio.submit(3)]


async def _neighbours_are_whole(studio: Studio, first: Sitting, third: Sitting) -> None:
    studio.gates.let_all_go()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(first.task, third.task)
    assert studio.finished == [1, 3]
    assert await studio.is_whole(first)
    assert await studio.is_whole(third)
    fourth = studio.submit(4)
    async with asyncio.timeout(PATIENCE):
        await fourth.task
    assert await studio.is_whole(fourth)
    assert studio.gates.most_at_once["draw"] == 1
    assert not any(studio.gates.inside(stage) for stage in STAGES)


@pytest.mark.parametrize("stage", STAGES)
async def test_a_cancel_at_any_stage_stops_that_job_alone(studio: Studio, stage: str) -> None:
    first, second, third = await _three_jobs_the_middle_one_held(studio, stage)
    second.task.cancel()
    if stage == "draw":
        # It ends at its next step, whatever it was doing, and the device goes to the next job.
        await studio.until_in("draw", 3)
        assert ("draw", 2) in studio.gates.ended
    else:
        await asyncio.sleep(0.02)
    await _neighbours_are_whole(studio, first, third)
    await asyncio.wait([second.task])
    assert second.task.cancelled()
    assert not second.artifacts
    after = STAGES[STAGES.index(stage) + 1 :]
    assert not [point for point in studio.gates.began if point[1] == 2 and point[0] in after]


async def test_a_cancel_while_waiting_for_the_device_leaves_the_line(studio: Studio) -> None:
    studio.gates.hold("draw", 1)
    first, second, third = (studio.submit(seed) for seed in (1, 2, 3))
    await studio.until(lambda: ("prepare", 3) in studio.gates.ended)
    second.task.cancel()
    await _neighbours_are_whole(studio, first, third)
    assert ("draw", 2) not in studio.gates.began


async def test_a_cancel_while_waiting_to_say_done_lets_the_next_one_pass(studio: Studio) -> None:
    studio.gates.hold("upload", 1)
    first, second, third = (studio.submit(seed) for seed in (1, 2, 3))
    await studio.until(lambda: len(third.artifacts) == 1)
    second.task.cancel()
    await asyncio.wait([second.task])
    assert studio.finished == [], "the third still waits for the first"
    await _neighbours_are_whole(studio, first, third)


async def test_a_cancel_for_want_of_room_gives_the_device_back(studio: Studio) -> None:
    seeds = range(1, UNSAVED_IMAGES + 3)
    for seed in seeds[:UNSAVED_IMAGES]:
        studio.gates.hold("upload", seed)
    sittings = [studio.submit(seed) for seed in seeds]
    await studio.until(lambda: studio.gates.inside("upload") == UNSAVED_IMAGES)
    blocked, last = sittings[UNSAVED_IMAGES:]
    blocked.task.cancel()
    await asyncio.wait([blocked.task])
    studio.gates.let_all_go()
    async with asyncio.timeout(PATIENCE):
        await last.task
    assert studio.finished == [*seeds[:UNSAVED_IMAGES], last.seed]
    assert ("draw", blocked.seed) not in studio.gates.began


async def test_cancelled_twice_a_draw_still_keeps_the_next_one_out(studio: Studio) -> None:
    """A stop that is itself interrupted must not let two draws onto the device."""
    studio.gates.hold("draw", 1)
    first, second = studio.submit(1, steps=40), studio.submit(2)
    await studio.until_in("draw", 1)
    first.task.cancel()
    await asyncio.sleep(0)
    first.task.cancel()
    async with asyncio.timeout(PATIENCE):
        await second.task
    assert studio.gates.most_at_once["draw"] == 1


FAILURES = [
    ("prepare", InvalidInput("this LoRA is damaged", field="style_model_path")),
    ("draw", OutOfMemory("CUDA out of memory")),
    ("decode", RuntimeError("the decoder broke")),
    ("encode", OSError("no memory for the file")),
    ("upload", StorageFailed("the store refused")),
]


@pytest.mark.parametrize(("stage", "error"), FAILURES, ids=[stage for stage, _ in FAILURES])
async def test_a_failure_at_any_stage_is_that_jobs_alone(studio: Studio, stage: str, error: Exception) -> None:
    studio.gates.fail(stage, 2, error)
    first, second, third = await _three_jobs_the_middle_one_held(studio, stage)
    studio.gates.let_go(stage, 2)
    assert await second.error() is error
    assert not second.artifacts
    assert studio.finished == [], "the first is still being stored"
    await _neighbours_are_whole(studio, first, third)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"reference_image_path": "inputs/99.png"}, "reference_image_path"),
        ({"loras": [{"slot": "style", "path": "loras/styles/gone.safetensors", "weight": 1.0}]}, "lora"),
    ],
    ids=["image", "lora"],
)
async def test_an_input_that_is_gone_fails_that_job_alone(studio: Studio, changes: dict, field: str) -> None:
    studio.gates.hold("upload", 1)
    first, second, third = studio.submit(1), studio.submit(2, **changes), studio.submit(3)
    error = await second.error()
    assert isinstance(error, InvalidInput)
    assert error.field == field
    await _neighbours_are_whole(studio, first, third)


async def test_a_failed_image_stops_the_rest_of_its_job(studio: Studio) -> None:
    studio.gates.fail("upload", 1, StorageFailed("the store refused"))
    studio.gates.hold("draw", 2)
    sitting = studio.submit(1, num_outputs=9)
    await studio.until(lambda: ("upload", 1) in studio.gates.ended)
    studio.gates.let_go("draw", 2)
    assert isinstance(await sitting.error(), StorageFailed)
    assert len([point for point in studio.gates.began if point[0] == "draw"]) < 4


async def test_what_is_drawn_waits_for_a_store_that_is_away(studio: Studio) -> None:
    studio.gates.fail("upload", 1, StorageAway("the store could not be reached"))
    sitting = studio.submit(1)
    await studio.until(lambda: studio.gates.ended.count(("upload", 1)) == 2)
    studio.gates.mend("upload", 1)
    await sitting.task
    assert studio.gates.began.count(("draw", 1)) == 1
    assert await studio.is_whole(sitting)


async def test_no_more_is_drawn_than_there_is_room_for_while_the_store_is_away(studio: Studio) -> None:
    seeds = range(1, UNSAVED_IMAGES + 4)
    for seed in seeds:
        studio.gates.fail("upload", seed, StorageAway("the store could not be reached"))
    sittings = [studio.submit(seed) for seed in seeds]
    await studio.until(lambda: studio.gates.ended.count(("upload", UNSAVED_IMAGES)) == 2)
    assert len([point for point in studio.gates.began if point[0] == "draw"]) == UNSAVED_IMAGES
    for seed in seeds:
        studio.gates.mend("upload", seed)
    await asyncio.gather(*(sitting.task for sitting in sittings))


async def test_a_job_that_waits_for_the_store_can_be_stopped(studio: Studio) -> None:
    studio.gates.fail("upload", 1, StorageAway("the store could not be reached"))
    first, second = studio.submit(1), studio.submit(2)
    await studio.until(lambda: ("upload", 1) in studio.gates.ended)
    first.task.cancel()
    async with asyncio.timeout(PATIENCE):
        await second.task
        await asyncio.wait([first.task])
    assert first.task.cancelled()
    assert await studio.is_whole(second)


async def test_what_is_stored_is_announced_while_the_rest_is_drawn(studio: Studio) -> None:
    studio.gates.hold("draw", 3)
    sitting = studio.submit(1, num_outputs=3)
    await studio.until(lambda: bool(sitting.artifacts))
    assert ("draw", 3) not in studio.gates.ended
    studio.gates.let_all_go()
    await sitting.task
    assert isinstance(sitting.events[-1], Done)
    assert [event.seed for event in sitting.events if isinstance(event, Artifact)] == [1, 2, 3]
