"""Is this a workflow that can run? Answered when it is defined, and once more when its input is known.

Everything that is wrong is found at once, and every fault says where it is.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi.exceptions import RequestValidationError

from compute.errors import InvalidInput
from compute.orders.order import named_kind
from compute.orders.serving import Serving
from compute.schemas.workflows import MAX_STEPS, CreateWorkflow, WorkflowStepDefinition
from compute.workflows import graph
from compute.workflows.check_step import CheckedStep, Known, check_step
from compute.workflows.plan import CONFIG, INPUT

__all__ = ["CheckedStep", "CheckedWorkflow", "check_workflow"]

_MOST_FAULTS = 100
_NAMED = 20

_Faults = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class CheckedWorkflow:
    """A sound definition. `steps` are in the order of the definition; `final_step_id` is the last on which no other
    depends."""

    steps: tuple[CheckedStep, ...]
    final_step_id: str


def check_workflow(definition: CreateWorkflow, serving: Serving, given: Mapping[str, Any] | None) -> CheckedWorkflow:
    """Check a definition against what is served here; `given` is its input, or None while that is not known.

    Raises:
        RequestValidationError: names everything that is wrong, up to a hundred faults.
    """
    _refuse(_faulty_names(definition))
    edges = {step.id: _parents(step) for step in definition.steps}
    _refuse(_unknown_names(definition, edges) or _waiting_for_each_other(edges))
    known = Known(serving, {INPUT: given, CONFIG: definition.config})
    places = {step.id: place for place, step in enumerate(definition.steps)}
    faults: _Faults = []
    for step_id in graph.walk(edges):
        place = places[step_id]
        known.steps[step_id], found = check_step(definition.steps[place], tuple(edges[step_id]), known)
        faults += [_at(place, *loc, message=message) for loc, message in found]
    _refuse(faults)
    last = max(graph.sinks(edges), key=places.__getitem__)
    return CheckedWorkflow(tuple(known.steps[step.id] for step in definition.steps), last)


def _parents(step: WorkflowStepDefinition) -> list[str]:
    """What a step depends on: as it says, and as its mappings and its condition imply."""
    sources = [mapping.from_step for mapping in step.input_mappings] + ([step.when.from_step] if step.when else [])
    return list(dict.fromkeys([*step.depends_on, *(source for source in sources if source not in (INPUT, CONFIG))]))


def _faulty_names(definition: CreateWorkflow) -> _Faults:
    if len(definition.steps) > MAX_STEPS:
        return [_fault("steps", message=f"{len(definition.steps)} steps; at most {MAX_STEPS} are allowed.")]
    counts = Counter(step.id for step in definition.steps)
    faults = [
        _at(place, "id", message=f"There are {counts[step.id]} steps named {step.id!r}.")
        for place, step in enumerate(definition.steps)
        if counts[step.id] > 1
    ]
    for place, step in enumerate(definition.steps):
        try:
            named_kind(step.task_type)
        except InvalidInput as error:
            faults.append(_at(place, "task_type", message=error.detail))
    return faults


def _unknown_names(definition: CreateWorkflow, edges: graph.Edges) -> _Faults:
    faults: _Faults = []
    for place, step in enumerate(definition.steps):
        named: list[tuple[tuple[str | int, ...], str]] = [
            *((("depends_on", index), parent) for index, parent in enumerate(step.depends_on)),
            *((("input_mappings", index, "from_step"), one.from_step) for index, one in enumerate(step.input_mappings)),
            *([(("when", "from_step"), step.when.from_step)] if step.when else []),
        ]
        for loc, name in named:
            special = name in (INPUT, CONFIG) and loc[0] != "depends_on"
            if name not in edges and not special:
                faults.append(_at(place, *loc, message=f"There is no step {name!r}."))
    return faults


def _waiting_for_each_other(edges: graph.Edges) -> _Faults:
    never = graph.unreachable(edges)
    if not never:
        return []
    names = ", ".join(never[:_NAMED]) + (f" and {len(never) - _NAMED} more" if len(never) > _NAMED else "")
    return [_fault("steps", message=f"These steps can never begin, for they wait for each other: {names}.")]


def _refuse(faults: _Faults) -> None:
    if faults:
        raise RequestValidationError(faults[:_MOST_FAULTS])


def _at(place: int, *loc: str | int, message: str) -> dict[str, Any]:
    return _fault("steps", place, *loc, message=message)


def _fault(*loc: str | int, message: str) -> dict[str, Any]:
    return {"loc": ("body", *loc), "msg": message, "type": "invalid_workflow"}
