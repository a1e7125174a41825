"""Folders of tenants, and the part of a store that each of them is shown."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.errors import Forbidden, InvalidInput, NotFound
from compute.storage.local import LocalStore
from compute.storage.paths import clean_path
from compute.storage.tenants import TenantFiles, check_shown, own_folder, own_loras, tenant_folder

names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)


@given(names, names)
def test_no_two_tenants_share_a_folder_whatever_a_file_system_takes_for_the_same(one: str, other: str) -> None:
    if one != other:
        assert tenant_folder(one).casefold() != tenant_folder(other).casefold()
    assert clean_path(f"{tenant_folder(one)}a.png") == f"{tenant_folder(one)}a.png"
    assert not tenant_folder(one).startswith(tenant_folder(other)) or one == other


def files(folder: Path, tenant: str = "one", *made: str) -> TenantFiles:
    async def is_made(path: str) -> bool:
        return path.startswith(made)

    return TenantFiles(LocalStore(folder), tenant, is_made)


MINE = (
    "tenants/one/a.png",
    "loras/tenants/one/styles/a.safetensors",
    "loras/styles/shared.safetensors",
    "generations/7/a",
)
OTHERS = (
    "tenants/two/a.png",
    "tenants/one=/a.png",
    "Tenants/one/a.png",
    "uploads/a.png",
    "inputs/a.png",
    "bin/loras/a",
    "generations/8/a",
    "loras/tenants/two/styles/a.safetensors",
    "loras/TENANTS/two/styles/a.safetensors",
    "Loras/tenants/two/styles/a.safetensors",
)


async def test_what_is_others_is_not_there(tmp_path: Path) -> None:
    everything = LocalStore(tmp_path)
    for path in (*MINE, *OTHERS):
        await everything.put(path, b"content", "image/png")
    mine = files(tmp_path, "one", "generations/7/")
    for path in MINE:
        assert await mine.stat(path) is not None, path
        assert await mine.get(path) == await mine.read(path, 0, 100) == b"content"
        assert b"".join([chunk async for chunk in mine.stream(path)]) == b"content"
        await check_shown(mine, path, field="image")
    for path in OTHERS:
        assert await mine.stat(path) is None, path
        for reading in (mine.get(path), mine.read(path, 0, 1), mine.download(path, tmp_path / "copy")):
            with pytest.raises(NotFound):
                await reading
        with pytest.raises(NotFound):
            _ = [chunk async for chunk in mine.stream(path)]
        with pytest.raises(InvalidInput):
            await check_shown(mine, path, field="image")
        assert await mine.delete(path) is False
        assert await mine.delete_prefix(path) == 0
        for writing in (mine.put(path, b"x", "image/png"), mine.create(path, b"x", "image/png")):
            with pytest.raises(Forbidden):
                await writing
        with pytest.raises(Forbidden):
            await mine.move(MINE[0], path)
    for path in OTHERS:
        assert await everything.get(path) == b"content"
    await everything.close()


async def test_lists_show_ones_own_whatever_they_begin_with(tmp_path: Path) -> None:
    everything = LocalStore(tmp_path)
    for path in (*MINE, *OTHERS):
        await everything.put(path, b"content", "image/png")
    mine = files(tmp_path, "one", "generations/7")
    prefixes = {
        "": ["tenants/one/a.png"],
        "ten": ["tenants/one/a.png"],
        "tenants/one/": ["tenants/one/a.png"],
        "tenants/two/": [],
        "generations/": [],
        "generations/7/": ["generations/7/a"],
        "generations/8/": [],
        "uploads": [],
        "loras/": ["loras/styles/shared.safetensors", "loras/tenants/one/styles/a.safetensors"],
    }
    for prefix, wanted in prefixes.items():
        assert [one.path for one in await mine.list(prefix, 100)] == wanted, prefix
    assert (own_folder(mine), own_loras(mine)) == ("tenants/one/", "loras/tenants/one/")
    assert (own_folder(everything), own_loras(everything)) == ("", "loras/")
    await everything.close()
