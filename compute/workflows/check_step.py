"""One step of a definition: do its mappings fit, and would its tasks be accepted?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi.exceptions import RequestValidationError

from compute.errors import InvalidInput
from compute.orders.order import order
from compute.orders.serving import Serving
from compute.schemas.workflows import FieldMapping, WorkflowStepDefinition
from compute.tasks.registry import TaskKind, kind_of
from compute.workflows.body import OWNED, static_body
from compute.workflows.fields import (
    ANYTHING,
    TEXT,
    Shape,
    list_of,
    names_of,
    shape_of_value,
    source_shapes,
    target_shapes,
    transformed,
)
from compute.workflows.mapping import MISSING, find
from compute.workflows.plan import CONFIG, INPUT

__all__ = ["CheckedStep", "Fault", "Known", "check_step"]

Fault = tuple[tuple[str | int, ...], str]
"""Where it is within the step, and what it is."""


@dataclass(frozen=True, slots=True)
class CheckedStep:
    """A sound step. `spread` are the fields of which each of its tasks gets an element; `many`: there are any."""

    definition: WorkflowStepDefinition
    dependencies: tuple[str, ...]
    spread: frozenset[str] = frozenset()

    @property
    def many(self) -> bool:
        return bool(self.spread)


@dataclass(slots=True)
class Known:
    """What may be mapped from: `values` of input and configuration (None: not known yet), and the steps before."""

    serving: Serving
    values: Mapping[str, Mapping[str, Any] | None]
    steps: dict[str, CheckedStep] = field(default_factory=dict)


class _MisfitError(Exception):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def check_step(
    step: WorkflowStepDefinition, dependencies: tuple[str, ...], known: Known
) -> tuple[CheckedStep, list[Fault]]:
    """Check a step whose parents have been checked. With faults, the step is what those behind it may assume."""
    kind = kind_of(step.task_type)
    faults: list[Fault] = [
        (("config", name), "Tasks get this from their workflow.") for name in sorted(OWNED & step.config.keys())
    ]
    if step.config.get("task_type", step.task_type) != step.task_type:
        faults.append((("config", "task_type"), "The step names the type of its tasks."))
    spread = set()
    for index, mapping in enumerate(step.input_mappings):
        try:
            if _is_spread(mapping, kind, known):
                spread.add(mapping.to_field)
        except _MisfitError as misfit:
            faults.append((("input_mappings", index, misfit.field), str(misfit)))
    if step.when is not None:
        try:
            _source(step.when.from_step, step.when.from_field, known, must_exist=False)
        except _MisfitError as misfit:
            faults.append((("when", misfit.field), str(misfit)))
    if not faults:
        faults += _refusals(step, kind, known, frozenset(spread))
    return CheckedStep(step, dependencies, frozenset(spread)), faults


def _is_spread(mapping: FieldMapping, kind: TaskKind[Any], known: Known) -> bool:
    """Whether the mapping gives a list to a field for one of its elements.

    Raises:
        _MisfitError: it cannot give what the field takes.
    """
    targets = target_shapes(kind)
    if mapping.to_field not in targets or mapping.to_field in OWNED | {"task_type"}:
        raise _MisfitError("to_field", f"{kind.name} has no field {mapping.to_field!r} to fill.")
    target = targets[mapping.to_field]
    source = _source(mapping.from_step, mapping.from_field, known)
    made = transformed(source, mapping.transform)
    if made is None:
        raise _MisfitError("transform", f"{mapping.transform} cannot be applied to {source}.")
    if made.kinds == ANYTHING.kinds or target.accepts(made):
        return False
    if "array" in made.kinds and target.accepts(made.element):
        return True
    hint = " The transform LIST makes a list of it." if "array" in target.kinds and target.element.accepts(made) else ""
    raise _MisfitError("to_field", f"{mapping.to_field} takes {target}; it would get {made}.{hint}")


def _source(step_id: str, path: str, known: Known, *, must_exist: bool = True) -> Shape:
    """The shape of what is taken from.

    Raises:
        _MisfitError: there is no such field; of input and configuration, if it must exist.
    """
    if step_id in (INPUT, CONFIG):
        values = known.values[step_id]
        value = MISSING if values is None else find({step_id: values}, step_id, path)
        if values is not None and value is MISSING and must_exist:
            raise _MisfitError("from_field", f"{step_id} has no value {path!r}.")
        return ANYTHING if value is MISSING else shape_of_value(value)
    parent = known.steps[step_id]
    shapes = source_shapes(kind_of(parent.definition.task_type))
    name, *inner = path.split(".")
    if name not in shapes:
        offered = ", ".join(sorted(shapes))
        raise _MisfitError(
            "from_field", f"Results of {parent.definition.task_type} have no {name!r}; they have: {offered}."
        )
    if inner:
        return ANYTHING
    return list_of(shapes[name]) if parent.many and not shapes[name].is_list else shapes[name]


def _refusals(
    step: WorkflowStepDefinition, kind: TaskKind[Any], known: Known, spread: frozenset[str]
) -> Iterator[Fault]:
    """Why the step's tasks would not be accepted, as far as their fields are known by now."""
    guessed: set[str] = set()
    places: dict[str, tuple[str | int, ...]] = {}
    body = static_body(step)
    for index, mapping in enumerate(step.input_mappings):
        value = _known_value(mapping, known) if mapping.transform is None else MISSING
        if mapping.to_field in spread and isinstance(value, list):
            value = next(iter(value), MISSING)
        if value is MISSING:
            guessed |= names_of(kind, mapping.to_field)
            value = _example(target_shapes(kind)[mapping.to_field])
        body[mapping.to_field] = value
        places |= dict.fromkeys(names_of(kind, mapping.to_field), ("input_mappings", index, "from_field"))
    try:
        order(kind, body, known.serving)
    except InvalidInput as error:
        name = error.field.split(".")[0]
        if name not in guessed:
            yield places.get(name, ("config", *error.field.split("."))), error.detail
    except RequestValidationError as error:
        for fault in error.errors():
            loc = fault["loc"][1:]
            # Without a place it is about several fields together, and some of them are guesses.
            if (loc and loc[0] not in guessed) or not (loc or guessed):
                yield places.get(loc[0] if loc else "", ("config", *loc)), fault["msg"]


def _known_value(mapping: FieldMapping, known: Known) -> Any:
    values = known.values.get(mapping.from_step)
    return MISSING if values is None else find({mapping.from_step: values}, mapping.from_step, mapping.from_field)


def _example(shape: Shape) -> Any:
    """A value that stands for one that is not known yet."""
    if shape.accepts(TEXT):
        return "x"
    if "array" in shape.kinds:
        return ["x"] if shape.element.accepts(TEXT) else []
    return {"number": 1, "boolean": True}.get(next(iter(shape.kinds)), {})
