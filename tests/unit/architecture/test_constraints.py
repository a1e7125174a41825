"""constraints.txt names every package that an installation brings, at the version that is installed here.

The walk begins with the requirements in pyproject.toml, all extras included, and follows those of each installed
distribution. The extras `bench` and `xformers` are not part of `make`: where they are missing, their own requirements
are checked, and what those bring in turn is not.
"""

import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[3]
WITHOUT_MAKE = ("bench", "xformers")
"""Extras that `make` does not install."""


def requirements_of(extra: str = "") -> list[Requirement]:
    """What the project itself requires, or one of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return [Requirement(text) for text in texts]


def extras() -> list[str]:
    return list(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def pins() -> dict[str, str]:
    """Each package of constraints.txt and its version."""
    lines = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    return {canonicalize_name(line.name): str(line.specifier).removeprefix("==") for line in lines}


def brought(roots: list[Requirement]) -> Iterator[tuple[str, str | None]]:
    """Name and installed version of everything that these requirements bring; None: it is not installed."""
    waiting, seen = list(roots), set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            yield name, None
            continue
        yield name, installed.version
        for needed in map(Requirement, installed.requires or ()):
            asked = ("", *requirement.extras)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in asked):
                waiting.append(needed)


@pytest.mark.parametrize("extra", ["", *extras()])
def test_an_installation_brings_nothing_that_is_not_pinned(extra: str) -> None:
    found = dict(brought(requirements_of(extra)))
    assert found
    assert sorted(found.keys() - pins().keys()) == []
    assert extra in WITHOUT_MAKE or [name for name, version in found.items() if version is None] == []


@pytest.mark.parametrize("extra", ["", *extras()])
def test_the_pinned_versions_are_those_that_are_tested(extra: str) -> None:
    pinned = pins()
    tested = {name: Version(version).public for name, version in brought(requirements_of(extra)) if version}
    assert {name: version for name, version in tested.items() if version != pinned.get(name)} == {}
