"""Files that are gone: asked of the store together, not in turn."""

import asyncio
from pathlib import Path

import pytest

from compute.db.tables import WorkflowStep
from compute.errors import StorageFailed
from compute.storage.base import StoredObject
from compute.storage.local import LocalStore
from compute.storage.together import AT_ONCE
from compute.workflows.rows.losses import missing, without_files
from tests.patience import PATIENCE


class FarStore(LocalStore):
    """Answers when as many ask as may: whoever asks in turn waits for ever."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._asking = asyncio.Barrier(AT_ONCE)
        self.asked: list[str] = []

    async def stat(self, path: str) -> StoredObject | None:
        self.asked.append(path)
        await self._asking.wait()
        return await super().stat(path)


class AwayStore(LocalStore):
    async def stat(self, path: str) -> StoredObject | None:
        raise StorageFailed("The store is away.")


def step(name: str, *paths: str) -> WorkflowStep:
    return WorkflowStep(step_id=name, result={"outputs": [{"path": path} for path in paths]})


async def test_files_of_many_steps_are_asked_for_together(tmp_path: Path) -> None:
    store = FarStore(tmp_path)
    # One file a step, as steps of one picture have it.
    steps = [step(f"s{index}", f"tasks/{index}.png") for index in range(AT_ONCE)]
    for index in range(AT_ONCE):
        if index != 5:
            await store.put(f"tasks/{index}.png", b"x", "image/png")
    async with asyncio.timeout(PATIENCE):
        assert await without_files(store, steps) == {"s5"}


async def test_a_file_that_many_name_is_asked_for_once(tmp_path: Path) -> None:
    store = FarStore(tmp_path)
    paths = [f"tasks/{index}.png" for index in range(AT_ONCE)]
    async with asyncio.timeout(PATIENCE):
        assert await missing(store, paths * 3) == set(paths)
    assert sorted(store.asked) == sorted(paths)


async def test_a_step_without_files_has_lost_none(tmp_path: Path) -> None:
    steps = [WorkflowStep(step_id="none", result=None), WorkflowStep(step_id="count", result={"count": 3})]
    assert await without_files(LocalStore(tmp_path), steps) == set()


async def test_a_store_that_is_away_is_no_loss(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed):
        await missing(AwayStore(tmp_path), ["tasks/0.png"])
