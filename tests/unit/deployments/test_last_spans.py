"""The end of every deployment, at which its last spans are sent; found by walking the classes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import compute.deployments

MODULES = sorted(Path(compute.deployments.__file__).parent.glob("*.py"))
ENDS = ("__del__", "close")
"""Serve calls the first; the engine calls the second of its step runners."""
BASES = ("JobWorker",)
"""Classes that end for those that are made of them."""


def classes() -> Iterator[ast.ClassDef]:
    """Those that set up the process that they are in."""
    for module in MODULES:
        for one in ast.walk(ast.parse(module.read_text())):
            if isinstance(one, ast.ClassDef) and ("begin_process(" in ast.unparse(one) or one.name in BASES):
                yield one


def test_the_walk_finds_them() -> None:
    assert {"DispatcherDeployment", "TrainingDeployment", "StepRunnerActor", "JobWorker"} <= {
        one.name for one in classes()
    }


@pytest.mark.parametrize("one", list(classes()), ids=lambda one: one.name)
def test_it_sends_them(one: ast.ClassDef) -> None:
    ends = [part for part in one.body if isinstance(part, ast.AsyncFunctionDef) and part.name in ENDS]
    inherited = not ends and any(base in BASES for base in map(ast.unparse, one.bases))
    assert inherited or any("await end_process()" in ast.unparse(end) for end in ends)
