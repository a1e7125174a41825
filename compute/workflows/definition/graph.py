"""The DAG as names and edges: what is wrong with it, and in what order it can be walked. Pure."""

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Edges", "critical_path", "descendants", "sinks", "unreachable", "walk"]

Edges = Mapping[str, Sequence[str]]
"""For every step, in the order of the definition, the steps that it depends on."""


def walk(edges: Edges) -> list[str]:
    """The steps, each after all that it depends on; those that can begin together in the order of the definition.

    Example:
        walk({"enlarge": ["generate"], "generate": []})  # ["generate", "enlarge"]

    Steps that cannot be reached are left out; see `unreachable`.
    """
    children: dict[str, list[str]] = {step: [] for step in edges}
    missing = {step: len(set(parents)) for step, parents in edges.items()}
    for step, parents in edges.items():
        for parent in dict.fromkeys(parents):
            children[parent].append(step)
    ready = [step for step, count in missing.items() if count == 0]
    order: list[str] = []
    for step in ready:
        order.append(step)
        for child in children[step]:
            missing[child] -= 1
            if missing[child] == 0:
                ready.append(child)
    return order


def unreachable(edges: Edges) -> list[str]:
    """Steps that can never begin: those on a cycle and those behind one."""
    reached = set(walk(edges))
    return [step for step in edges if step not in reached]


def sinks(edges: Edges) -> list[str]:
    """Steps on which no other depends."""
    needed = {parent for parents in edges.values() for parent in parents}
    return [step for step in edges if step not in needed]


def descendants(edges: Edges, start: str) -> set[str]:
    """`start` and every step that depends on it, directly or through others."""
    found = {start}
    for step in walk(edges):
        if found & set(edges[step]):
            found.add(step)
    return found


def critical_path(edges: Edges, seconds: Mapping[str, float], done: Iterable[str] = ()) -> float:
    """The duration of the longest path through the steps that are not `done`, given the duration of each.

    Example:
        critical_path({"a": [], "b": ["a"], "c": ["a"]}, {"a": 9.0, "b": 1.0, "c": 4.0}, done=["a"])  # 4.0
    """
    over = set(done)
    ends: dict[str, float] = {}
    for step in walk(edges):
        begin = max((ends[parent] for parent in edges[step]), default=0.0)
        ends[step] = begin + (0.0 if step in over else seconds[step])
    return max(ends.values(), default=0.0)
