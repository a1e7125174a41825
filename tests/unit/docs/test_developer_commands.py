"""Commands that build, test and measure the project are there, with the options that the documentation gives them.

They are not run: they are what runs the tests, or take hours.
"""

import os
import re
import shlex
import subprocess
import sys
from functools import cache

import pytest

from tests.unit.docs.blocks import ROOT, Block
from tests.unit.docs.ways import Way, tried


def commands(block: Block) -> list[str]:
    """Its lines without comments."""
    return [line for raw in block.text.splitlines() if (line := re.sub(r"(^|\s+)#.*", "", raw))]


@cache
def help_of(module: str) -> str:
    """What `python -m MODULE --help` prints."""
    asked = subprocess.run(  # noqa: S603
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    return asked.stdout


def check_make(words: list[str]) -> None:
    """Every target can be made."""
    targets = [word for word in words if "=" not in word]
    assert targets
    recipes = (ROOT / "Makefile").read_text()
    assert [target for target in targets if not re.search(rf"^{target}:", recipes, re.MULTILINE)] == []


def check_pytest(words: list[str]) -> None:
    """Every file and folder of tests is there."""
    paths = [word for word in words if not word.startswith("-")]
    assert [path for path in paths if not (ROOT / path.partition("::")[0]).exists()] == []


def check_module(words: list[str]) -> None:
    """Python finds the module, and it knows the options."""
    module, *arguments = words
    options = [word for word in arguments if word.startswith("--")]
    assert [option for option in options if option not in help_of(module)] == []


def check_export(words: list[str]) -> None:
    """The tests read the variable."""
    names = [word.partition("=")[0] for word in words]
    readers = "".join(path.read_text() for path in (ROOT / "tests").rglob("conftest.py"))
    assert [name for name in names if name not in readers] == []


CHECKS = {
    "make ": check_make,
    ".venv/bin/pytest ": check_pytest,
    ".venv/bin/python -m ": check_module,
    "python -m ": check_module,
    "export ": check_export,
}


@pytest.mark.parametrize("block", tried(Way.LOOKED_UP), ids=str)
def test_a_command_is_there(block: Block) -> None:
    lines = commands(block)
    assert lines
    for line in lines:
        beginnings = [beginning for beginning in CHECKS if line.startswith(beginning)]
        assert len(beginnings) == 1, f"nobody knows how to look up {line!r}"
        CHECKS[beginnings[0]](shlex.split(line.removeprefix(beginnings[0])))
