"""Models of the project's own: made anew by a newer version, unless somebody else put or changed them there."""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from compute.pipelines import ModelConfig, own_models, resolve_model
from compute.pipelines.families import families
from compute.pipelines.own_models import MANIFEST, OwnModel, ensure_current, is_current, is_settled

NAME = "tiny-flux"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """What a version of the package ships."""
    folder = tmp_path / "package"
    (folder / "vae").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "vae" / "weights").write_text("old")
    return folder


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    return tmp_path / "home" / NAME


def shipped(package: Path) -> OwnModel:
    """As a process of this version sees it."""

    def build(folder: Path) -> None:
        for file in package.rglob("*"):
            if file.is_file():
                there = folder / file.relative_to(package)
                there.parent.mkdir(parents=True, exist_ok=True)
                there.write_bytes(file.read_bytes())

    # Another folder for each version, as another installation has it.
    version = package.with_name(f"package-{(package / 'vae' / 'weights').read_text()}")
    if not version.exists():
        version.mkdir()
        build(version)
    return OwnModel(build, (version,))


def upgraded(package: Path) -> OwnModel:
    (package / "vae" / "weights").write_text("new")
    return shipped(package)


def weights(folder: Path) -> str:
    return (folder / "vae" / "weights").read_text()


def test_a_newer_version_replaces_what_an_older_one_made(package: Path, installed: Path) -> None:
    assert not is_settled(installed, shipped(package))
    assert weights(ensure_current(installed, shipped(package))) == "old"
    assert is_current(installed, shipped(package))
    newer = upgraded(package)
    assert not is_current(installed, newer)
    assert not is_settled(installed, newer)
    assert weights(ensure_current(installed, newer)) == "new"
    assert is_settled(installed, newer)
    assert [entry.name for entry in installed.parent.iterdir()] == [NAME]


def change(folder: Path) -> None:
    (folder / "vae" / "weights").write_text("mine")


def add(folder: Path) -> None:
    (folder / "native_size.json").write_text('{"most_pixels": 4096}')


def remove(folder: Path) -> None:
    (folder / "vae" / "weights").unlink()


def forget(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def spoil(folder: Path) -> None:
    (folder / MANIFEST).write_text("[")


@pytest.mark.parametrize("touch", [change, add, remove, forget, spoil])
def test_what_somebody_changed_stays(touch: Callable[[Path], None], package: Path, installed: Path) -> None:
    ensure_current(installed, shipped(package))
    touch(installed)
    before = {file: file.read_bytes() for file in installed.rglob("*") if file.is_file()}
    newer = upgraded(package)
    # So nothing is started to build it, at this start or at the next.
    assert is_settled(installed, newer)
    ensure_current(installed, newer)
    assert {file: file.read_bytes() for file in installed.rglob("*") if file.is_file()} == before


def test_many_at_once_leave_one_whole_model(package: Path, installed: Path) -> None:
    ensure_current(installed, shipped(package))
    newer = upgraded(package)
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: ensure_current(installed, newer), range(16)))
    assert {weights(folder) for folder in folders} == {"new"}
    assert [entry.name for entry in installed.parent.iterdir()] == [NAME]


def test_a_process_that_ends_in_the_middle_leaves_nothing_that_stays(package: Path, installed: Path) -> None:
    """Killed between the two renames: the old folder is aside, the new one not yet in place."""
    ensure_current(installed, shipped(package))
    installed.rename(installed.with_name(f".{NAME}-abc.old"))
    (installed.parent / f".{NAME}-abc").mkdir()
    assert weights(ensure_current(installed, upgraded(package))) == "new"
    assert [entry.name for entry in installed.parent.iterdir()] == [NAME]


def test_a_build_that_fails_keeps_the_old_model(package: Path, installed: Path) -> None:
    ensure_current(installed, shipped(package))

    def build(folder: Path) -> None:
        (folder / "model_index.json").write_text("{")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        ensure_current(installed, OwnModel(build, upgraded(package).made_of))
    assert weights(installed) == "old"
    assert [entry.name for entry in installed.parent.iterdir()] == [NAME]


@pytest.fixture
def shipped_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes a digest one of those that the package knows of versions without manifests."""

    def know(digest: str) -> None:
        table = tmp_path / "shipped_before.json"
        table.write_text(json.dumps({NAME: [digest]}))
        monkeypatch.setattr(own_models, "_SHIPPED", table)
        own_models._shipped_before.cache_clear()

    yield know
    own_models._shipped_before.cache_clear()


def test_the_weights_of_versions_without_manifests_are_replaced(
    package: Path, installed: Path, shipped_before: Callable[[str], None]
) -> None:
    shutil.copytree(package, installed)
    hashes = {name: sha256((package / name).read_bytes()).hexdigest() for name in ("model_index.json", "vae/weights")}
    shipped_before(sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest())
    ensure_current(installed, upgraded(package))
    assert weights(installed) == "new"
    assert (installed / MANIFEST).is_file()


def test_weights_without_a_manifest_that_no_version_wrote_stay(
    package: Path, installed: Path, shipped_before: Callable[[str], None]
) -> None:
    shutil.copytree(package, installed)
    shipped_before("0" * 64)
    ensure_current(installed, upgraded(package))
    assert weights(installed) == "old"


def test_what_is_shipped_names_no_place_on_the_machine_that_made_it() -> None:
    shipped_files = [path for path in Path(own_models.__file__).parent.rglob("*.json") if "demo_flux" in path.parts]
    assert len(shipped_files) > 5
    for path in shipped_files:
        assert "_name_or_path" not in path.read_text(), path


def test_a_folder_of_a_users_own_under_our_name_is_served_as_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "demo-flux"
    mine.mkdir()
    (mine / "model_index.json").write_text('{"mine": true}')
    assert resolve_model(ModelConfig(model="demo-flux"), tmp_path) == mine
    assert [file.name for file in mine.iterdir()] == ["model_index.json"]


def test_every_model_of_our_own_has_a_version(tmp_path: Path) -> None:
    for family in families().values():
        for own in family.own_models.values():
            assert own.made_of
            assert len(own.version) == 64
