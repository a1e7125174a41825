"""No test's verdict depends on how fast the machine is: what must happen is waited for with `tests.patience`."""

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parents[2]
CLOCKS = {"monotonic", "perf_counter"}
WAITS = {"timeout", "wait", "join", "result", "wait_for"}
CLIENTS = {f"httpx.{name}" for name in ("Client", "AsyncClient", "get", "head", "post", "put", "delete", "request")}
PACING = 1.0
"""Seconds. What sleeps less between two looks sets a pace; whoever sleeps longer hopes that it was enough."""

Constants = Mapping[str, list[ast.expr]]


@dataclass(frozen=True)
class Place:
    """A node of a file, the nodes around it, and what the file's names are given."""

    node: ast.AST
    around: tuple[ast.AST, ...]
    constants: Constants

    def number(self, value: ast.expr) -> float | None:
        """What an expression of numbers and of names for numbers comes to, at most; None for any other."""
        return _number(value, self.constants, frozenset({"PATIENCE", "NEVER"}))


def _number(value: ast.expr, constants: Constants, seen: frozenset[str]) -> float | None:
    if isinstance(value, ast.Constant) and type(value.value) in (int, float):
        return float(value.value)
    if isinstance(value, ast.BinOp):
        sides = [_number(side, constants, seen) for side in (value.left, value.right)]
        return None if None in sides else max(side for side in sides if side is not None)
    if isinstance(value, ast.Name) and value.id in constants and value.id not in seen:
        given = [_number(one, constants, seen | {value.id}) for one in constants[value.id]]
        return None if None in given else max(one for one in given if one is not None)
    return None


def _constants(tree: ast.AST) -> Constants:
    """What each name of a file is given, by assignments and by defaults."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                found.setdefault(ast.unparse(target), []).append(node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            found.setdefault(ast.unparse(node.target), []).append(node.value)
        elif isinstance(node, ast.arguments):
            named = [*node.posonlyargs, *node.args]
            pairs = [*zip(named[::-1], node.defaults[::-1], strict=False)]
            pairs += [(one, default) for one, default in zip(node.kwonlyargs, node.kw_defaults, strict=True) if default]
            for one, default in pairs:
                found.setdefault(one.arg, []).append(default)
    return found


def _called(node: ast.AST) -> str:
    """The last name of what is called."""
    return ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def _calls(node: ast.AST, names: set[str]) -> bool:
    """Whether a call of one of these functions stands somewhere in it."""
    return any(_called(one) in names for one in ast.walk(node))


def example_with_a_deadline(place: Place) -> bool:
    node = place.node
    return (
        isinstance(node, ast.Call)
        and _called(node) == "settings"
        and any(keyword.arg == "deadline" for keyword in node.keywords)
    )


def wait_with_a_limit_of_its_own(place: Place) -> bool:
    """`asyncio.timeout(10)`, `event.wait(5)`, `thread.join(limit)`, `asyncio.wait_for(work, 2)`, `get(timeout=20)`."""
    node = place.node
    if not isinstance(node, ast.Call):
        return False
    named = [keyword.value for keyword in node.keywords if keyword.arg == "timeout"]
    # What is shorter is no patience: it is what the test is about.
    if any((seconds := place.number(one)) is not None and seconds >= PACING for one in named):
        return True
    paces = isinstance(place.around[-1], ast.UnaryOp) and isinstance(place.around[-2], ast.While)
    given = [one for one in node.args if _called(node) in WAITS and place.number(one) is not None]
    return bool(given) and not paces


def client_with_the_patience_of_its_library(place: Place) -> bool:
    node = place.node
    return (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) in CLIENTS
        and not any(keyword.arg == "timeout" for keyword in node.keywords)
    )


def elapsed_time_as_a_verdict(place: Place) -> bool:
    """An assertion that so and so many seconds have not passed; a loop's own deadline is no such thing."""
    node = place.node
    return isinstance(node, ast.Assert) and any(
        isinstance(one, ast.BinOp) and isinstance(one.op, ast.Sub) and _calls(one, CLOCKS)
        for one in ast.walk(node.test)
    )


def deadline_of_its_own(place: Place) -> bool:
    """`time.monotonic() + 20`."""
    node = place.node
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)):
        return False
    return _calls(node.left, CLOCKS) and place.number(node.right) is not None


def sleep_until_it_must_have_happened(place: Place) -> bool:
    node = place.node
    looks_again = any(isinstance(one, ast.While) for one in place.around)
    if looks_again or not (isinstance(node, ast.Call) and _called(node) == "sleep" and node.args):
        return False
    seconds = place.number(node.args[0])
    return seconds is not None and seconds >= PACING


def loop_that_may_never_end(place: Place) -> bool:
    """One that looks again and again, without a limit around it or in it. Whoever works until cancelled is none."""
    node = place.node
    if not (isinstance(node, ast.While) and _calls(node, {"sleep"})):
        return False
    endless = isinstance(node.test, ast.Constant) and not any(
        isinstance(one, ast.Break | ast.Return) for one in ast.walk(node)
    )
    around = [one for one in place.around if isinstance(one, ast.With | ast.AsyncWith)]
    limited = any(_calls(item.context_expr, {"timeout"}) for one in around for item in one.items)
    return not endless and not limited and not _calls(node, CLOCKS)


RULES: list[Callable[[Place], bool]] = [
    example_with_a_deadline,
    wait_with_a_limit_of_its_own,
    client_with_the_patience_of_its_library,
    elapsed_time_as_a_verdict,
    deadline_of_its_own,
    sleep_until_it_must_have_happened,
    loop_that_may_never_end,
]


def places(text: str) -> Iterator[Place]:
    tree = ast.parse(text)
    constants = _constants(tree)
    left: list[tuple[ast.AST, tuple[ast.AST, ...]]] = [(tree, ())]
    while left:
        node, around = left.pop()
        yield Place(node, around, constants)
        left += [(child, (*around, node)) for child in ast.iter_child_nodes(node)]


@cache
def places_by_file() -> dict[Path, list[Place]]:
    return {path: list(places(path.read_text())) for path in sorted(TESTS.rglob("*.py"))}


@pytest.mark.parametrize("broken", RULES)
def test_no_test_has_a(broken: Callable[[Place], bool]) -> None:
    found = [
        f"{path.relative_to(TESTS)}:{getattr(place.node, 'lineno', 0)}"
        for path, there in places_by_file().items()
        for place in there
        if broken(place)
    ]
    assert found == [], "\n".join(found)


SAMPLES: dict[Callable[[Place], bool], list[str]] = {
    example_with_a_deadline: ["@settings(deadline=5)\ndef test(): ..."],
    wait_with_a_limit_of_its_own: [
        "asyncio.wait_for(work, 10)",
        "SOON = 3\nthread.join(SOON)",
        "def until(seconds=2 * 5): event.wait(seconds)",
        "api.get('/', timeout=20)",
        "asyncio.timeout(5.0)",
    ],
    client_with_the_patience_of_its_library: ["httpx.get(url)", "httpx.AsyncClient(base_url=url)"],
    elapsed_time_as_a_verdict: ["assert time.monotonic() - begun < 3"],
    deadline_of_its_own: ["give_up = time.monotonic() + 20", "def until(s: float = 9): end = time.perf_counter() + s"],
    sleep_until_it_must_have_happened: ["time.sleep(5)", "A = 4\nasyncio.sleep(A)"],
    loop_that_may_never_end: ["while not found: time.sleep(0.1)", "while True:\n  time.sleep(0.1)\n  if found: break"],
}


@pytest.mark.parametrize("rule", SAMPLES)
def test_a_rule_finds_what_it_names(rule: Callable[[Place], bool]) -> None:
    for text in SAMPLES[rule]:
        assert any(map(rule, places(text))), text


def test_hypothesis_has_no_deadline() -> None:
    assert settings().deadline is None
