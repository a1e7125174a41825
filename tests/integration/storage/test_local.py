"""Faults of a folder alone."""
# ruff: noqa: ASYNC240 (a test may wait for the disk)

import asyncio
import errno
import os
import subprocess
from pathlib import Path

import pytest

from compute.errors import Conflict, InvalidInput, NotFound, StorageAway, StorageFailed
from compute.settings import Settings
from compute.storage import open_store
from compute.storage.files import atomic_file, disk_failure
from compute.storage.local import LocalStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore(root)


async def test_the_settings_choose_it(tmp_path: Path) -> None:
    store = open_store(Settings(home=tmp_path, storage="local"))
    await store.put("a/b", b"x", "text/plain")
    assert (tmp_path / "storage" / "a" / "b").read_bytes() == b"x"
    await store.close()


async def test_the_api_must_serve_its_objects(store: LocalStore) -> None:
    assert await store.url("a", 60) is None


async def test_empty_folders_go_with_their_last_object(store: LocalStore, root: Path) -> None:
    await store.put("a/b/c/d", b"x", "text/plain")
    await store.put("a/e", b"x", "text/plain")
    await store.delete("a/b/c/d")
    assert sorted(entry.name for entry in (root / "a").iterdir()) == ["e"]
    await store.delete_prefix("a/")
    assert root.is_dir()
    assert list(root.iterdir()) == []


async def test_writers_and_deleters_of_one_folder_do_not_trip_each_other(store: LocalStore) -> None:
    async def come_and_go(name: str) -> None:
        for _ in range(30):
            await store.put(f"deep/er/{name}", b"x", "text/plain")
            await store.delete(f"deep/er/{name}")

    await asyncio.gather(*(come_and_go(name) for name in "abcd"))
    assert await store.list("", 10) == []


async def test_a_file_is_no_folder_and_a_folder_is_no_file(store: LocalStore) -> None:
    await store.put("a", b"x", "text/plain")
    await store.put("b/c", b"x", "text/plain")
    with pytest.raises(Conflict):
        await store.put("a/b", b"x", "text/plain")
    with pytest.raises(Conflict):
        await store.put("b", b"x", "text/plain")
    assert [stored.path for stored in await store.list("", 10)] == ["a", "b/c"]
    assert await store.get("a") == b"x"


async def test_symbolic_links_lead_nowhere(store: LocalStore, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    await store.put("inside/a", b"x", "text/plain")
    (root / "folder").symlink_to(outside)
    (root / "inside" / "link").symlink_to(outside / "secret")

    for path in ("folder/secret", "inside/link"):
        assert await store.stat(path) is None
        assert await store.delete(path) is False
        with pytest.raises(NotFound):
            await store.get(path)
        with pytest.raises(StorageFailed):
            await store.put(path, b"changed", "text/plain")
    with pytest.raises(StorageFailed):
        await store.put("folder/new", b"x", "text/plain")
    assert [stored.path for stored in await store.list("", 10)] == ["inside/a"]
    assert await store.delete_prefix("f") == 0
    assert [entry.name for entry in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_bytes() == b"secret"


async def test_a_root_behind_a_link_is_the_operators_choice(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    store = LocalStore(tmp_path / "link")
    await store.put("a/b", b"x", "text/plain")
    assert await store.get("a/b") == b"x"


async def test_a_failed_write_leaves_the_old_object_and_no_litter(
    store: LocalStore, root: Path, tmp_path: Path
) -> None:
    await store.put("a", b"old", "text/plain")

    def fail_halfway() -> None:
        with atomic_file(root / "a", durable=True) as file:
            file.write(b"new")
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match="Input/output"):
        await asyncio.to_thread(fail_halfway)
    assert await store.get("a") == b"old"
    assert [entry.name for entry in root.iterdir()] == ["a"]


async def test_what_is_being_written_is_not_listed(store: LocalStore, root: Path) -> None:
    root.mkdir()
    with atomic_file(root / "a", durable=False) as file:
        file.write(b"half")
        assert await store.list("", 10) == []
    assert [stored.path for stored in await store.list("", 10)] == ["a"]


async def test_files_can_be_read_by_others_as_the_umask_says(store: LocalStore, root: Path) -> None:
    old = os.umask(0o027)
    try:
        await store.put("a", b"x", "text/plain")
    finally:
        os.umask(old)
    assert (root / "a").stat().st_mode & 0o777 == 0o640


def test_a_full_disk_is_called_full() -> None:
    with pytest.raises(OSError, match="No space") as caught, Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")
    assert disk_failure("writing", "results/a", caught.value).detail == "The disk is full (writing results/a)."


async def test_a_full_disk_under_the_store(small_disk: Path) -> None:
    store = LocalStore(small_disk / "store")
    await store.put("old", b"x", "text/plain")
    with pytest.raises(StorageFailed, match="full"):
        await store.put("big", b"x" * 1_000_000, "text/plain")
    assert [stored.path for stored in await store.list("", 10)] == ["old"]


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)  # noqa: S603, S607


async def test_a_disk_that_has_become_read_only_is_waited_for(small_disk: Path) -> None:
    """As it is remounted after an error of the disk."""
    store = LocalStore(small_disk / "store")
    await store.put("old", b"x", "text/plain")
    remount(small_disk, "ro")
    with pytest.raises(StorageAway, match="Read-only"):
        await store.put("new", b"x", "text/plain")
    remount(small_disk, "rw")
    await store.put("new", b"x", "text/plain")


@pytest.mark.parametrize("path", ["a" * 300, "old/below"])
async def test_a_path_that_no_disk_would_take_is_not_waited_for(root: Path, path: str) -> None:
    store = LocalStore(root)
    await store.put("old", b"x", "text/plain")
    with pytest.raises((StorageFailed, Conflict, InvalidInput)) as caught:
        await store.put(path, b"x", "text/plain")
    assert not isinstance(caught.value, StorageAway)


async def test_check_says_why_the_folder_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed, match="Not a directory") as caught:
        await LocalStore(tmp_path / "file" / "store").check()
    assert str(tmp_path) not in caught.value.detail
