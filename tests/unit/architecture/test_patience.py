"""No test's verdict depends on how fast the machine is: what must happen is waited for with `tests.patience`."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parents[2]
CLOCKS = {"monotonic", "perf_counter", "time"}
WAITS = {"timeout", "wait", "join", "result"}


def calls(node: ast.AST, names: set[str]) -> bool:
    """Whether a call of one of these functions stands somewhere in it."""
    return any(
        isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr in names
        for one in ast.walk(node)
    )


def example_with_a_deadline(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and any(
        keyword.arg == "deadline" for keyword in node.keywords if ast.unparse(node.func).endswith("settings")
    )


def wait_with_a_literal_limit(node: ast.AST) -> bool:
    """`asyncio.timeout(10)`, `event.wait(5)`, `thread.join(timeout=3)`, `future.result(2)`."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WAITS):
        return False
    given = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "timeout")]
    return any(isinstance(one, ast.Constant) and isinstance(one.value, int | float) for one in given)


def elapsed_time_as_a_verdict(node: ast.AST) -> bool:
    """An assertion that so and so many seconds have not passed; a loop's own deadline is no such thing."""
    if not isinstance(node, ast.Assert):
        return False
    for one in ast.walk(node.test):
        if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Sub) and calls(one, CLOCKS):
            return True
    return False


RULES: list[Callable[[ast.AST], bool]] = [
    example_with_a_deadline,
    wait_with_a_literal_limit,
    elapsed_time_as_a_verdict,
]


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            yield path, node


@pytest.mark.parametrize("broken", RULES)
def test_no_test_has_a(broken: Callable[[ast.AST], bool]) -> None:
    found = [f"{path.relative_to(TESTS)}:{getattr(node, 'lineno', 0)}" for path, node in nodes() if broken(node)]
    assert found == [], "\n".join(found)


def test_hypothesis_has_no_deadline() -> None:
    assert settings().deadline is None
