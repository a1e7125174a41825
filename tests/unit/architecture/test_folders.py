"""Where files lie: folders instead of prefixes, none too full to read, and tests beside what they test."""

from collections import defaultdict
from pathlib import Path

import pytest

import compute

ROOT = Path(compute.__file__).parent
TESTS = Path(__file__).parents[2]
MOST_FILES = 16
UNMIRRORED = {
    "unit": {"architecture", "docs", "proof", "tools"},
    "integration": {"clients", "docs"},
}
"""Folders of tests that test more than one room of `compute`, or none of them."""


def folders_of(*roots: Path) -> list[Path]:
    """Every folder of these that holds modules, but for that of the migrations, which grows with time."""
    found = {module.parent for root in roots for module in root.rglob("*.py")}
    return sorted(folder for folder in found if folder.name != "versions")


FOLDERS = folders_of(ROOT)
ALL_FOLDERS = folders_of(ROOT, ROOT.parent / "benchmarks", ROOT.parent / "tools", TESTS / "providers")


def names_in(folder: Path) -> list[str]:
    """The modules and packages of a folder."""
    packages = [path.parent.name for path in folder.glob("*/__init__.py")]
    return [*packages, *(path.stem for path in folder.glob("*.py") if path.stem != "__init__")]


@pytest.mark.parametrize("folder", ALL_FOLDERS, ids=lambda folder: folder.relative_to(ROOT.parent).as_posix())
def test_a_folder_can_be_read_at_a_glance(folder: Path) -> None:
    assert len(list(folder.glob("*.py"))) <= MOST_FILES


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT.parent).as_posix())
def test_no_prefix_stands_for_a_folder(folder: Path) -> None:
    sharing = defaultdict(list)
    for name in names_in(folder):
        sharing[name.split("_")[0]].append(name)
    assert [names for names in sharing.values() if len(names) > 1] == []


@pytest.mark.parametrize("kind", ["unit", "integration"])
def test_tests_lie_as_what_they_test(kind: str) -> None:
    folders = {path.parent.relative_to(TESTS / kind) for path in (TESTS / kind).rglob("test_*.py")}
    strange = {
        folder.as_posix()
        for folder in folders
        if not (ROOT / folder).is_dir() and folder.parts[0] not in UNMIRRORED[kind]
    }
    assert strange == set()
