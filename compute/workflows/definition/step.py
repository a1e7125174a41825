"""One step of a definition: do its mappings fit, and would its tasks be accepted?"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from compute.errors import InvalidFields, InvalidInput
from compute.requests.request import TaskRequest
from compute.requests.serving import Serving
from compute.schemas.enums import TransformType
from compute.schemas.rules.sentences import same_as
from compute.schemas.workflows import FieldMapping, WorkflowStepDefinition
from compute.storage.readable import check_readable
from compute.tasks.registry import TaskKind, kind_of
from compute.workflows.definition.body import OWNED, static_body
from compute.workflows.definition.fields import (
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
from compute.workflows.definition.mapping import MISSING, find
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
    """The sources of a mapping: `values` of input and configuration (None: not known yet), and the steps before."""

    serving: Serving
    values: Mapping[str, Mapping[str, Any] | None]
    steps: dict[str, CheckedStep] = field(default_factory=dict)


class _MisfitError(Exception):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def check_step(
    step: WorkflowStepDefinition, dependencies: tuple[str, ...], known: Known, *, partial: bool = False
) -> tuple[CheckedStep, list[Fault]]:
    """Check a step; of a parent that is not known yet, any value may come. With faults, the step is what those behind
    it may assume. Of one that is `partial` nobody can say whether its tasks would be accepted."""
    kind = kind_of(step.task_type)
    faults: list[Fault] = [
        (("config", name), "Tasks get this from their workflow.") for name in sorted(OWNED & step.config.keys())
    ]
    if step.config.get("task_type", step.task_type) != step.task_type:
        faults.append((("config", "task_type"), "The step names the type of its tasks."))
    twice = list(_doubly_named(step, kind))
    faults += twice
    spread, misfits = set(), set[int]()
    filled = Counter(mapping.to_field for mapping in step.input_mappings)
    for index, mapping in enumerate(step.input_mappings):
        try:
            if _is_spread(mapping, kind, known, needed=filled[mapping.to_field] == 1):
                spread.add(mapping.to_field)
        except _MisfitError as misfit:
            faults.append((("input_mappings", index, misfit.field), str(misfit)))
            misfits.add(index)
    if step.when is not None:
        try:
            _source(step.when.from_step, step.when.from_field, known, needed=False)
        except _MisfitError as misfit:
            faults.append((("when", misfit.field), str(misfit)))
    if not partial and not twice:
        placed = {loc for loc, _ in faults}
        refusals = _refusals(step, kind, known, frozenset(spread), misfits)
        faults += [(loc, message) for loc, message in refusals if loc not in placed]
    return CheckedStep(step, dependencies, frozenset(spread)), faults


def _doubly_named(step: WorkflowStepDefinition, kind: TaskKind[Any]) -> Iterator[Fault]:
    """Fields that are filled under two of their names, which no task may be."""
    used: dict[str, str] = {}
    locs = [(name, ("config", name)) for name in step.config] + [
        (mapping.to_field, ("input_mappings", index, "to_field")) for index, mapping in enumerate(step.input_mappings)
    ]
    for name, loc in locs:
        if name in target_shapes(kind):
            first = used.setdefault(min(names_of(kind, name)), name)
            if first != name:
                yield loc, same_as(name, first)


def _is_spread(mapping: FieldMapping, kind: TaskKind[Any], known: Known, *, needed: bool) -> bool:
    """Whether the mapping gives a list to a field for one of its elements.

    Raises:
        _MisfitError: it cannot give what the field takes.
    """
    targets = target_shapes(kind)
    if mapping.to_field not in targets or mapping.to_field in OWNED | {"task_type"}:
        raise _MisfitError("to_field", f"{kind.name} has no field `{mapping.to_field}` to fill.")
    target = targets[mapping.to_field]
    source = _source(mapping.from_step, mapping.from_field, known, needed=needed)
    _check_paths(mapping, known)
    made = transformed(source, mapping.transform)
    if made is None:
        raise _MisfitError("transform", f"{mapping.transform} cannot be applied to {source}.")
    if made.kinds == ANYTHING.kinds or target.accepts(made):
        return False
    if "array" in made.kinds and target.accepts(made.element):
        return True
    hint = " The transform LIST makes a list of it." if "array" in target.kinds and target.element.accepts(made) else ""
    raise _MisfitError("to_field", f"{mapping.to_field} takes {target}; it would get {made}.{hint}")


def _check_paths(mapping: FieldMapping, known: Known) -> None:
    """Raises:
    _MisfitError: a file that the transform would read is one that nobody may read.
    """
    values = known.values.get(mapping.from_step)
    if values is None or mapping.transform not in (TransformType.URL, TransformType.BASE64):
        return
    value = find({mapping.from_step: values}, mapping.from_step, mapping.from_field)
    for path in value if isinstance(value, list) else [value]:
        try:
            if isinstance(path, str):
                check_readable(path, field="from_field")
        except InvalidInput as error:
            raise _MisfitError("from_field", error.detail) from None


def _source(step_id: str, path: str, known: Known, *, needed: bool) -> Shape:
    """The shape of what is taken from.

    Raises:
        _MisfitError: there is no such field; of input and configuration, if it is needed.
    """
    if step_id in (INPUT, CONFIG):
        values = known.values[step_id]
        value = MISSING if values is None else find({step_id: values}, step_id, path)
        if values is not None and value is MISSING and needed:
            raise _MisfitError("from_field", f"{step_id} has no value `{path}`.")
        return ANYTHING if value is MISSING else shape_of_value(value)
    parent = known.steps.get(step_id)
    if parent is None:
        return ANYTHING
    shapes = source_shapes(kind_of(parent.definition.task_type))
    name, *inner = path.split(".")
    if name not in shapes:
        offered = ", ".join(sorted(shapes))
        raise _MisfitError(
            "from_field", f"Results of {parent.definition.task_type} have no `{name}`; they have: {offered}."
        )
    shape = list_of(shapes[name]) if parent.many and not shapes[name].is_list else shapes[name]
    return _inside(shape, name, inner)


def _inside(shape: Shape, name: str, path: list[str]) -> Shape:
    """The shape at `path` inside a field of this shape.

    Raises:
        _MisfitError: nothing can.
    """
    for part in path:
        if shape.is_list:
            if not part.isdecimal():
                raise _MisfitError("from_field", f"{name} is {shape}: a number must follow, not `{part}`.")
            shape = shape.element
        elif "object" in shape.kinds:
            shape = ANYTHING
        else:
            raise _MisfitError("from_field", f"{name} is {shape} and has nothing inside, so no `{part}`.")
    return shape


@dataclass(slots=True)
class _Draft:
    """A step's body as far as it is known: `locs` say where its fields come from; those in `guessed`, under all of
    their names, stand for values that are not known yet."""

    body: dict[str, Any]
    locs: dict[Any, tuple[str | int, ...]]
    guessed: set[str] = field(default_factory=set)

    def of_a_guess(self, loc: tuple[Any, ...]) -> bool:
        """Whether a fault there says nothing. Without a location it is about several fields together."""
        return loc[0] in self.guessed if loc else bool(self.guessed)

    def sent_loc(self, loc: tuple[Any, ...]) -> tuple[str | int, ...]:
        return self.locs.get(loc[0] if loc else None, ("config", *loc))


def _refusals(
    step: WorkflowStepDefinition, kind: TaskKind[Any], known: Known, spread: frozenset[str], misfits: Collection[int]
) -> Iterator[Fault]:
    """The faults for which the step's tasks would be refused, as far as their fields are known by now."""
    draft = _draft(step, kind, known, spread, misfits)
    try:
        TaskRequest.of(kind, draft.body, known.serving)
    except InvalidInput as error:
        loc = tuple(error.field.split("."))
        if not draft.of_a_guess(loc):
            yield draft.sent_loc(loc), error.detail
    except InvalidFields as error:
        for fault in error.faults:
            loc = tuple(fault["loc"][1:])
            if not draft.of_a_guess(loc):
                yield draft.sent_loc(loc), fault["msg"]


def _draft(
    step: WorkflowStepDefinition, kind: TaskKind[Any], known: Known, spread: frozenset[str], misfits: Collection[int]
) -> _Draft:
    body = static_body(step)
    draft = _Draft(body, {name: (name,) for name in body.keys() - step.config.keys()})
    if "provider_type" in draft.locs:
        draft.locs["provider_type"] = ("provider_config", "provider_type")
    filled: set[str] = set()
    for index, mapping in enumerate(step.input_mappings):
        # The first that has a value counts; one that is known to have none leaves the field to the others.
        if mapping.to_field in filled or mapping.to_field not in target_shapes(kind):
            continue
        if index not in misfits and _has_none(mapping, known):
            continue
        filled.add(mapping.to_field)
        names = names_of(kind, mapping.to_field)
        draft.locs |= dict.fromkeys(names, ("input_mappings", index, "from_field"))
        value = MISSING if index in misfits else _known_value(mapping, known)
        if mapping.to_field in spread and isinstance(value, list):
            value = next(iter(value), MISSING)
        if value is MISSING:
            draft.guessed |= names
            value = _example(target_shapes(kind)[mapping.to_field])
        draft.body[mapping.to_field] = value
    return draft


def _has_none(mapping: FieldMapping, known: Known) -> bool:
    """Whether it is known by now that the mapping has no value."""
    values = known.values.get(mapping.from_step)
    return values is not None and find({mapping.from_step: values}, mapping.from_step, mapping.from_field) is MISSING


def _known_value(mapping: FieldMapping, known: Known) -> Any:
    values = known.values.get(mapping.from_step)
    if values is None or mapping.transform is not None:
        return MISSING
    return find({mapping.from_step: values}, mapping.from_step, mapping.from_field)


def _example(shape: Shape) -> Any:
    """A value that stands for one that is not known yet."""
    if shape.accepts(TEXT):
        return "x"
    if "array" in shape.kinds:
        return ["x"] if shape.element.accepts(TEXT) else []
    return {"number": 1, "boolean": True}.get(next(iter(shape.kinds)), {})
