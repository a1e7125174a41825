"""A newcomer pastes what is printed and documented, and has a picture on the disk."""

import os
from pathlib import Path

import pytest

from compute.stack.runtime import runtime_path
from tests.acceptance.conftest import Stack
from tests.acceptance.pasting import paste, printed_lines, seen_in

LARGEST_LOG = 64 * 2**20
SHORTEST_SECRET = 16


def test_the_printed_lines_draw_a_red_dress_on_white(stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "a folder of mine"
    folder.mkdir()
    paste("\n".join(printed_lines(stack)), folder)
    for name in ("picture.png", "first.png"):
        seen = seen_in(folder / name)
        assert (seen.color, seen.garment, seen.background) == ("red", "dress", "white"), name


def secrets_of(home: Path) -> dict[str, str]:
    """Whatever lies in a file of the home that its owner alone may read and that holds one word."""
    found = {}
    for file in home.rglob("*"):
        if "postgres" in file.relative_to(home).parts[0] or not file.is_file() or file.stat().st_mode & 0o077:
            continue
        if file.stat().st_size < 4096:
            words = file.read_bytes().decode("utf-8", "replace").split()
            if len(words) == 1 and len(words[0]) >= SHORTEST_SECRET and not words[0].startswith("{"):
                found[str(file.relative_to(home))] = words[0]
    return found


def test_no_secret_is_printed_or_logged(stack: Stack) -> None:
    secrets = secrets_of(stack.home)
    assert {"api_key", "webhook_secret"} <= secrets.keys()
    token = Path(stack.output.read_text().split("Ray token    in ")[1].splitlines()[0])
    secrets["Ray's token"] = token.read_text().strip()
    logs = [path for path in runtime_path(stack.home).rglob("*") if path.is_file() and not path.is_symlink()]
    logs = [path for path in logs if path.suffix in {".log", ".out", ".err", ".txt", ".json"}]
    assert logs
    for file in [stack.output, *logs]:
        if file.stat().st_size <= LARGEST_LOG and os.access(file, os.R_OK):
            text = file.read_text(errors="replace")
            for name, secret in secrets.items():
                assert secret not in text, f"{name} stands in {file}"


@pytest.mark.parametrize("arguments", [["status", "--json"], ["version"], ["openapi"], ["up"]])
def test_no_command_prints_a_secret(stack: Stack, arguments: list[str]) -> None:
    said = stack.compute(*arguments)
    for name, secret in secrets_of(stack.home).items():
        assert secret not in said.stdout + said.stderr, name
