"""Faults of a workflow's values, told by what the caller has sent."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from compute.errors import InvalidFields
from compute.requests.faults import loc_of
from compute.schemas.rules.sentences import Fault
from compute.schemas.workflows import CreateWorkflow
from compute.workflows.definition.mapping import MISSING, find
from compute.workflows.plan import CONFIG, INPUT

__all__ = ["faults_of_input", "faults_of_values"]

_FIRST_OF_STEP = 3
"""`["body", "steps", 0, …]`"""
_FIELD_OF_CONFIG = 4
"""`["body", "steps", 0, "config", "prompt", …]`"""


@contextmanager
def faults_of_values(definition: CreateWorkflow) -> Iterator[None]:
    """Makes the faults of fields that mappings fill speak of the input and the configuration that the values are
    from."""
    try:
        yield
    except InvalidFields as error:
        fields = {INPUT: "input", CONFIG: "config"}
        raise InvalidFields([_of_value(fault, definition, fields) for fault in error.faults]) from None


@contextmanager
def faults_of_input(definition: CreateWorkflow) -> Iterator[None]:
    """Makes the faults of a workflow that is started speak of its input: nothing else was sent."""
    try:
        yield
    except InvalidFields as error:
        raise InvalidFields([_of_input(fault, definition) for fault in error.faults]) from None


def _of_value(fault: Fault, definition: CreateWorkflow, fields: Mapping[str, str]) -> Fault:
    """The fault at the location of the mapped value, if that is in one of `fields`, by sources of mappings."""
    loc = fault["loc"]
    if loc[1:2] != ("steps",) or loc[_FIRST_OF_STEP:_FIELD_OF_CONFIG] != ("config",) or len(loc) <= _FIELD_OF_CONFIG:
        return fault
    step, values = definition.steps[loc[2]], {INPUT: definition.input or {}, CONFIG: definition.config}
    for mapping in step.input_mappings:
        source, path = mapping.from_step, mapping.from_field
        if mapping.to_field == loc[_FIELD_OF_CONFIG] and find(values, source, path) is not MISSING:
            if source not in fields:
                break
            inside = loc[_FIELD_OF_CONFIG + 1 :] if mapping.transform is None else ()
            sent = (*loc_of(f"{fields[source]}.{path}"), *inside)
            return fault | {"loc": sent, "msg": f"Step `{step.id}`: {fault['msg']}"}
    return fault


def _of_input(fault: Fault, definition: CreateWorkflow) -> Fault:
    fault = _of_value(fault, definition, {INPUT: "input"})
    loc = fault["loc"]
    if loc[1:2] != ("steps",) or len(loc) < _FIRST_OF_STEP:
        return fault
    step, rest = definition.steps[loc[2]], loc[_FIRST_OF_STEP:]
    path: tuple[str | int, ...] = ()
    if rest[:1] == ("input_mappings",) and len(rest) > 1:
        mapping = step.input_mappings[rest[1]]
        path = tuple(mapping.from_field.split(".")) if mapping.from_step == INPUT else ()
    return fault | {"loc": ("body", "input", *path), "msg": f"Step `{step.id}`: {fault['msg']}"}
