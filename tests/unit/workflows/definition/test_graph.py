"""The DAG as names and edges."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from compute.workflows.definition.graph import critical_path, descendants, sinks, unreachable, walk

Graph = dict[str, list[str]]

DIAMOND: Graph = {"start": [], "left": ["start"], "right": ["start"], "end": ["left", "right"]}


@st.composite
def dags(draw: st.DrawFn, most: int = 12) -> Graph:
    """Steps in any order of definition; parents may be named twice."""
    names = [f"s{number}" for number in range(draw(st.integers(0, most)))]
    edges = {
        name: draw(st.lists(st.sampled_from(names[:place]), max_size=4)) if place else []
        for place, name in enumerate(names)
    }
    return {name: edges[name] for name in draw(st.permutations(names))}


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """With and without cycles."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 8)))]
    return {name: draw(st.lists(st.sampled_from(names), max_size=3)) for name in names}


def ancestors(edges: Graph, step: str) -> set[str]:
    """What a step waits for; itself, too, if it is on a cycle."""
    found: set[str] = set()
    frontier = list(edges[step])
    while frontier:
        parent = frontier.pop()
        if parent not in found:
            found.add(parent)
            frontier += edges[parent]
    return found


def ways(edges: Graph, step: str) -> list[list[str]]:
    """Every way that ends with a step."""
    return [[step], *([*way, step] for parent in set(edges[step]) for way in ways(edges, parent))]


# --- order and cycles ------------------------------------------------------------------------------------------------


@given(dags())
def test_every_step_comes_once_and_after_all_that_it_depends_on(edges: Graph) -> None:
    order = walk(edges)
    assert sorted(order) == sorted(edges)
    place = {step: index for index, step in enumerate(order)}
    assert all(place[parent] < place[step] for step, parents in edges.items() for parent in parents)


def test_steps_that_wait_for_nothing_keep_the_order_of_the_definition() -> None:
    assert walk({"c": [], "a": [], "b": []}) == ["c", "a", "b"]


def test_a_parent_that_is_named_twice_is_waited_for_once() -> None:
    assert walk({"a": [], "b": ["a", "a"]}) == ["a", "b"]


@given(graphs())
def test_what_can_never_begin_is_exactly_what_is_on_a_cycle_or_behind_one(edges: Graph) -> None:
    above = {step: ancestors(edges, step) for step in edges}
    on_cycles = {step for step in edges if step in above[step]}
    expected = [step for step in edges if ({step} | above[step]) & on_cycles]
    assert unreachable(edges) == expected
    assert set(walk(edges)) == edges.keys() - set(expected)


def test_a_step_that_waits_for_itself_can_never_begin() -> None:
    assert unreachable({"a": [], "b": ["a", "b"]}) == ["b"]


def test_a_long_chain_is_no_trouble() -> None:
    names = [f"s{number}" for number in range(5000)]
    chain: Graph = {names[0]: []} | {step: [parent] for parent, step in pairwise(names)}
    assert walk(dict(reversed(chain.items()))) == names
    assert critical_path(chain, dict.fromkeys(names, 1.0)) == 5000


# --- ends and what is behind -----------------------------------------------------------------------------------------


def test_the_sinks_are_the_steps_on_which_no_other_depends() -> None:
    assert sinks(DIAMOND) == ["end"]
    assert sinks(DIAMOND | {"aside": ["start"]}) == ["end", "aside"]
    assert sinks({}) == []


@given(dags(), st.data())
def test_the_descendants_are_the_step_and_all_that_wait_for_it(edges: Graph, data: st.DataObject) -> None:
    if edges:
        start = data.draw(st.sampled_from(list(edges)))
        assert descendants(edges, start) == {start} | {step for step in edges if start in ancestors(edges, step)}


# --- how long it takes -----------------------------------------------------------------------------------------------


@given(dags(most=7), st.data())
def test_the_critical_path_is_the_longest_of_all_ways(edges: Graph, data: st.DataObject) -> None:
    seconds = {step: float(data.draw(st.integers(0, 100))) for step in edges}
    done = data.draw(st.sets(st.sampled_from(list(edges)))) if edges else set()

    def length(way: Sequence[str]) -> float:
        return sum(seconds[step] for step in way if step not in done)

    longest = max((length(way) for step in edges for way in ways(edges, step)), default=0.0)
    assert critical_path(edges, seconds, done) == longest


def test_what_is_done_takes_no_time_and_needs_no_estimate() -> None:
    left = {"left": 5.0, "right": 2.0, "end": 1.0}
    assert critical_path(DIAMOND, left, ["start"]) == 6.0
    assert critical_path(DIAMOND, {}, DIAMOND) == 0.0
