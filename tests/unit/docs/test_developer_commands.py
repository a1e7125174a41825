"""Commands that build, test and measure the project are there, with the options that the documentation gives them.

They are not run: they are what runs the tests, or take hours.
"""

import ast
import re
import shlex

import pytest

from compute.settings import setting_variables
from tests.unit.docs.blocks import ROOT, Block
from tests.unit.docs.ways import Way, tried


def commands(block: Block) -> list[str]:
    """Its lines without comments."""
    return [line for raw in block.text.splitlines() if (line := re.sub(r"(^|\s+)#.*", "", raw))]


def options_of(module: str) -> set[str]:
    """The options that a module of the project can have: those it spells out, and the parameters of its functions."""
    path = ROOT / module.replace(".", "/")
    source = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__main__.py"
    nodes = list(ast.walk(ast.parse(source.read_text())))
    spelled = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return spelled | {f"--{node.arg.replace('_', '-')}" for node in nodes if isinstance(node, ast.arg)}


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
    assert [option for option in options if option not in options_of(module)] == []


def check_export(words: list[str]) -> None:
    """The variable is a setting, or the tests read it."""
    names = [word.partition("=")[0] for word in words]
    readers = "".join(path.read_text() for path in (ROOT / "tests").rglob("conftest.py"))
    assert [name for name in names if name not in readers and name not in setting_variables()] == []


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
