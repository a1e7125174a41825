"""Tasks and their results through the client, both ways."""

import asyncio
from pathlib import Path

import pytest
from PIL import Image

from compute.client import (
    AsyncCompute,
    Compute,
    ConflictError,
    EndedBadly,
    Event,
    InvalidInputError,
    NotFoundError,
    Task,
    UnauthorizedError,
    WaitTimeout,
)
from tests.integration.api.conftest import KEY, Painter
from tests.integration.rows import UNKNOWN
from tests.patience import PATIENCE
from tests.pictures import size_of


def use(url: str, folder: Path, worker: Painter) -> tuple[Task, list[Event], list[Path]]:
    """From a prompt to files, as a script does it."""
    seen: list[Event] = []

    def see(event: Event) -> None:
        seen.append(event)
        worker.held.clear()

    # Until it is seen, so that something is.
    worker.held.add("a red dress")
    with Compute(url, KEY) as client:
        task = client.tasks.submit(prompt="a red dress", width=64, height=64, steps=2, seed=7, num_outputs=2)
        ended = client.tasks.wait(task, on_event=see, timeout=PATIENCE)
        return ended, seen, client.tasks.download(ended, folder)


async def test_a_script_gets_from_a_prompt_to_files(base_url: str, worker: Painter, tmp_path: Path) -> None:
    task, seen, files = await asyncio.to_thread(use, base_url, tmp_path / "made", worker)
    assert (task.status, task.prompt, task.seed) == ("COMPLETED", "a red dress", 7)
    assert seen[0].name == "status"
    assert [file.name for file in files] == [f"{task.id}-0.png", f"{task.id}-1.png"]
    assert [size_of(file) for file in files] == [(64, 64)] * 2
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [file.name for file in files]


async def test_one_call_waits_for_the_result(client: AsyncCompute, worker: Painter) -> None:
    task = await client.tasks.run("GENERATION", {"prompt": "a blue dress", "width": 64}, height=64, steps=1)
    assert (task.status, task.ended, len(task.paths), len(task.urls)) == ("COMPLETED", True, 1, 1)
    assert task.digest(task.paths[0])


async def test_a_task_is_cancelled_and_says_so_to_who_waits(client: AsyncCompute, worker: Painter) -> None:
    worker.held.add("slow")
    task = await client.tasks.submit(prompt="slow", width=64, height=64, steps=2)
    with pytest.raises(WaitTimeout):
        await client.tasks.wait(task, timeout=0.3)
    cancelled = await client.tasks.cancel(task)
    assert cancelled.status == "CANCELLED"
    with pytest.raises(EndedBadly) as ended:
        await client.tasks.wait(task)
    assert ended.value.ended.id == task.id
    assert (await client.tasks.wait(task, check=False)).status == "CANCELLED"
    with pytest.raises(ConflictError):
        await client.tasks.cancel(task)


async def test_many_tasks_are_submitted_at_once_and_listed_page_by_page(client: AsyncCompute) -> None:
    bodies = [{"task_type": "GENERATION", "prompt": f"dress {number}", "width": 64} for number in range(7)]
    made = await client.tasks.submit_all(bodies)
    assert [task.prompt for task in made] == [body["prompt"] for body in bodies]
    listed = [task.id async for task in client.tasks.list(status="PENDING", page_size=3)]
    assert listed == [task.id for task in reversed(made)]
    pages = [len(page) async for page in client.tasks.list(page_size=3).pages()]
    assert pages == [3, 3, 1]
    first = await client.tasks.list().first()
    assert first is not None
    assert (await client.tasks.update(first, priority=3)).priority == 3


async def test_a_task_is_removed_for_good(client: AsyncCompute) -> None:
    task = await client.tasks.submit(prompt="a dress", width=64)
    await client.tasks.cancel(f"task_{task.id.hex}")
    assert (await client.tasks.clean_up(task)).is_deleted
    await client.tasks.delete(task)
    with pytest.raises(NotFoundError):
        await client.tasks.get(task)


async def test_one_key_makes_one_task_whoever_sends_it(client: AsyncCompute) -> None:
    made = [await client.tasks.submit(prompt="a dress", width=64, idempotency_key="order-17") for _ in range(2)]
    assert made[0].id == made[1].id
    assert len([task async for task in client.tasks.list()]) == 1


async def test_a_refusal_names_each_field_as_it_was_sent(client: AsyncCompute) -> None:
    with pytest.raises(InvalidInputError) as refused:
        await client.tasks.submit(prompt="a dress", width="wide", steps="many")
    assert {fault.field for fault in refused.value.faults} == {"width", "steps"}
    assert (refused.value.status, refused.value.code) == (422, "INVALID_INPUT")
    with pytest.raises(NotFoundError) as missing:
        await client.tasks.get(UNKNOWN)
    assert UNKNOWN in str(missing.value)


async def test_a_wrong_key_is_an_error_of_its_own(base_url: str) -> None:
    async with AsyncCompute(base_url, "another-key-of-no-use") as client:
        with pytest.raises(UnauthorizedError):
            await client.tasks.list().first()


async def test_an_image_is_uploaded_once(client: AsyncCompute, tmp_path: Path) -> None:
    file = tmp_path / "dress.png"
    Image.new("RGB", (40, 30), "red").save(file)
    stored = await client.files.upload(file)
    assert (stored.width, stored.height) == (40, 30)
    assert await client.files.upload(file) == stored
    copy = await client.files.download(stored, tmp_path / "copy.png")
    with Image.open(copy) as image:
        assert image.getpixel((3, 3)) == (255, 0, 0)
    again = await client.files.upload(copy)
    assert again.path == stored.path
    assert [one.path async for one in client.files.list(prefix="uploads/")] == [stored.path]
    await client.files.delete(stored.path)
    assert not await client.files.exists(stored.path)
    assert (await client.files.upload(file.read_bytes(), path="refs/dress.png")).path == "refs/dress.png"
    linked = await client.files.download((await client.files.list().first()).url, tmp_path / "linked.png")
    assert size_of(linked) == (40, 30)
