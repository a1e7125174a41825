"""Is this a workflow that can run? Answered when it is defined, and once more when its input is known.

Everything that is wrong is found at once, and every fault says where it is.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compute.errors import InvalidFields, InvalidInput
from compute.requests.faults import MOST_FAULTS
from compute.requests.request import require_kind
from compute.requests.serving import Serving
from compute.schemas.workflows import MAX_STEPS, Condition, CreateWorkflow, FieldMapping, WorkflowStepDefinition
from compute.workflows.definition import graph
from compute.workflows.definition.step import CheckedStep, Known, check_step
from compute.workflows.plan import CONFIG, INPUT

__all__ = ["CheckedStep", "CheckedWorkflow", "Reading", "check_workflow", "inputs_read", "unread_inputs"]

_NAMED = 20

_Faults = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class CheckedWorkflow:
    """A sound definition. `steps` are in the order of the definition; `final_step_id` is the last on which no other
    depends."""

    steps: tuple[CheckedStep, ...]
    final_step_id: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A definition as far as it could be read of a body.

    Attributes:
        definition: Its sound steps, and as much of the rest.
        indices: The index in the body of each of those steps.
        unread: Names of steps that could not be read; others may wait for them.
        partial: Indices of steps of whose tasks a part is missing.
        unknown: Indices of steps whose type is unknown.
        whole: Nothing of any step is missing.
    """

    definition: CreateWorkflow
    indices: tuple[int, ...]
    unread: frozenset[str] = frozenset()
    partial: frozenset[int] = frozenset()
    unknown: frozenset[int] = frozenset()
    whole: bool = True


def check_workflow(
    definition: CreateWorkflow,
    serving: Serving,
    given: Mapping[str, Any] | None,
    *,
    reading: Reading | None = None,
    found: Sequence[Mapping[str, Any]] = (),
    also_read: Collection[str] = (),
) -> CheckedWorkflow:
    """Check a definition against what is served here; `given` is its input, or None while that is not known.

    Args:
        definition: What is checked.
        serving: What is served.
        given: The input.
        reading: Of what body it was read, if a part of that is missing.
        found: What is known to be wrong with that.
        also_read: Names of the input that nobody reads now, but may later.

    Raises:
        InvalidFields: names everything that is wrong, up to a hundred faults.
    """
    reading = reading or Reading(definition, tuple(range(len(definition.steps))))
    faults: _Faults = [dict(fault) for fault in found]
    if len(definition.steps) > MAX_STEPS:
        message = f"{len(definition.steps)} steps; at most {MAX_STEPS} are allowed."
        raise InvalidFields([_fault("steps", message=message), *faults][:MOST_FAULTS])
    opaque = {index for index, step in enumerate(definition.steps) if reading.indices[index] in reading.unknown}
    named, uninstalled = _faulty_names(definition, opaque)
    faults += named
    opaque |= uninstalled
    edges = {step.id: [name for name in _parents(step) if name not in reading.unread] for step in definition.steps}
    faults += _unknown_names(definition, edges, reading.unread)
    known_edges = {name: [parent for parent in parents if parent in edges] for name, parents in edges.items()}
    faults += _waiting_for_each_other(known_edges)
    if reading.whole:
        faults += _unread_inputs(definition, also_read)
    checked = {}
    known = Known(serving, {INPUT: given, CONFIG: definition.config})
    for index in _in_order(definition, known_edges):
        step = definition.steps[index]
        if index in opaque:
            continue
        partial = reading.indices[index] in reading.partial
        checked[index], wrong = check_step(step, tuple(edges[step.id]), known, partial=partial)
        known.steps[step.id] = checked[index]
        faults += [_at(index, *loc, message=message) for loc, message in wrong]
    _refuse([_in_body(fault, reading) for fault in faults[len(found) :]], found)
    last = max(graph.sinks(edges), key=[step.id for step in definition.steps].index)
    return CheckedWorkflow(tuple(checked[index] for index in range(len(definition.steps))), last)


def inputs_read(definition: CreateWorkflow) -> set[str]:
    """The names of the input that its steps take from."""
    sources: list[FieldMapping | Condition] = []
    for step in definition.steps:
        sources += [*step.input_mappings, *([step.when] if step.when else [])]
    return {source.from_field.partition(".")[0] for source in sources if source.from_step == INPUT}


def unread_inputs(given: Iterable[str], read: Collection[str]) -> list[dict[str, Any]]:
    """A fault for every name of an input that no step takes anything from."""
    known = ", ".join(sorted(read)[:_NAMED]) or "nothing"
    return [
        _fault("input", name, message=f"No step reads `{name[:_NAMED]}` of the input; they read: {known}.")
        for name in given
        if name not in read
    ]


def _unread_inputs(definition: CreateWorkflow, also_read: Collection[str]) -> _Faults:
    return unread_inputs(definition.input or {}, inputs_read(definition) | set(also_read))


def _in_order(definition: CreateWorkflow, edges: graph.Edges) -> list[int]:
    """The indices of all steps, each behind its parents where there is such an order."""
    ranks = {name: rank for rank, name in enumerate([*graph.walk(edges), *graph.unreachable(edges)])}
    return sorted(range(len(definition.steps)), key=lambda index: ranks[definition.steps[index].id])


def _in_body(fault: dict[str, Any], reading: Reading) -> dict[str, Any]:
    """The fault with the index of its step in the body."""
    loc = fault["loc"]
    if loc[1:2] == ("steps",) and len(loc) > 2:
        return fault | {"loc": (*loc[:2], reading.indices[loc[2]], *loc[3:])}
    return fault


def _parents(step: WorkflowStepDefinition) -> list[str]:
    """The parents of a step: those it names, and those that its mappings and its condition imply."""
    sources = [mapping.from_step for mapping in step.input_mappings] + ([step.when.from_step] if step.when else [])
    return list(dict.fromkeys([*step.depends_on, *(source for source in sources if source not in (INPUT, CONFIG))]))


def _faulty_names(definition: CreateWorkflow, unknown: set[int]) -> tuple[_Faults, set[int]]:
    """Faults of ids and types, and the indices of steps whose type is not installed."""
    counts = Counter(step.id for step in definition.steps)
    faults = [
        _at(index, "id", message=f"There are {counts[step.id]} steps named `{step.id}`.")
        for index, step in enumerate(definition.steps)
        if counts[step.id] > 1
    ]
    uninstalled = set()
    for index, step in enumerate(definition.steps):
        try:
            if index not in unknown:
                require_kind(step.task_type)
        except InvalidInput as error:
            faults.append(_at(index, "task_type", message=error.detail))
            uninstalled.add(index)
    return faults, uninstalled


def _unknown_names(definition: CreateWorkflow, edges: graph.Edges, unread: Collection[str]) -> _Faults:
    faults: _Faults = []
    for index, step in enumerate(definition.steps):
        named: list[tuple[tuple[str | int, ...], str]] = [
            *((("depends_on", at), parent) for at, parent in enumerate(step.depends_on)),
            *(
                (("input_mappings", number, "from_step"), one.from_step)
                for number, one in enumerate(step.input_mappings)
            ),
            *([(("when", "from_step"), step.when.from_step)] if step.when else []),
        ]
        for loc, name in named:
            special = name in (INPUT, CONFIG) and loc[0] != "depends_on"
            if name not in edges and name not in unread and not special:
                faults.append(_at(index, *loc, message=f"There is no step `{name}`."))
    return faults


def _waiting_for_each_other(edges: graph.Edges) -> _Faults:
    never = graph.unreachable(edges)
    if not never:
        return []
    names = ", ".join(never[:_NAMED]) + (f" and {len(never) - _NAMED} more" if len(never) > _NAMED else "")
    return [_fault("steps", message=f"These steps can never begin, for they wait for each other: {names}.")]


def _refuse(faults: _Faults, found: Sequence[Mapping[str, Any]]) -> None:
    if faults or found:
        raise InvalidFields([*map(dict, found), *faults][:MOST_FAULTS])


def _at(index: int, *loc: str | int, message: str) -> dict[str, Any]:
    return _fault("steps", index, *loc, message=message)


def _fault(*loc: str | int, message: str) -> dict[str, Any]:
    return {"loc": ("body", *loc), "msg": message, "type": "invalid_workflow"}
