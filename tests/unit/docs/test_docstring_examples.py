"""Examples in docstrings that say what they give, as in `sources(status)  # [TaskStatus.QUEUED]`, say it truly."""

import ast
import builtins
import importlib
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("db", "requests", "schemas", "tasks", "webhooks", "workflows")
LEAST = 10


def examples() -> Iterator[tuple[str, str, str]]:
    """Module, expression and value of every line that has both."""
    for package in PACKAGES:
        for path in sorted((ROOT / "compute" / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for line in lines(ast.parse(path.read_text())):
                expression, _, value = line.partition("  # ")
                if is_expression(expression) and is_expression(value):
                    yield module, expression, value


def lines(tree: ast.Module) -> Iterator[str]:
    """The lines of the examples of a module's functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            _, _, example = (ast.get_docstring(node) or "").partition("Example:\n")
            yield from textwrap.dedent(example.partition("\n\n")[0]).splitlines()


def is_expression(text: str) -> bool:
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return True


def can_be_tried(expression: str, namespace: dict[str, Any]) -> bool:
    """Whether it needs no more than its module has; others speak of a store, say, that the reader must have."""
    names = {node.id for node in ast.walk(ast.parse(expression)) if isinstance(node, ast.Name)}
    return names <= namespace.keys() | vars(builtins).keys()


FOUND = list(examples())


@pytest.mark.parametrize(("module", "expression", "value"), FOUND, ids=[expression for _, expression, _ in FOUND])
def test_an_example_gives_what_it_says(module: str, expression: str, value: str) -> None:
    namespace = vars(importlib.import_module(module))
    if can_be_tried(expression, namespace):
        assert eval(expression, namespace) == eval(value, namespace)  # noqa: S307


def test_most_examples_are_tried() -> None:
    tried = [one for module, one, _ in FOUND if can_be_tried(one, vars(importlib.import_module(module)))]
    assert len(tried) >= LEAST
