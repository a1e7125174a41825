"""Faults of a workflow that is started, told by what the caller has sent: the input alone."""

from collections.abc import Iterator
from contextlib import contextmanager

from compute.errors import InvalidFields
from compute.schemas.rules.sentences import Fault
from compute.schemas.workflows import CreateWorkflow
from compute.workflows.plan import INPUT

__all__ = ["faults_of_input"]

_FIRST_OF_STEP = 3
"""`["body", "steps", 0, …]`"""


@contextmanager
def faults_of_input(definition: CreateWorkflow) -> Iterator[None]:
    """Makes the faults of a workflow that is started speak of its input: nothing else was sent."""
    try:
        yield
    except InvalidFields as error:
        raise InvalidFields([_of_input(fault, definition) for fault in error.faults]) from None


def _of_input(fault: Fault, definition: CreateWorkflow) -> Fault:
    loc = fault["loc"]
    if loc[1:2] != ("steps",) or len(loc) < _FIRST_OF_STEP:
        return fault
    step, rest = definition.steps[loc[2]], loc[_FIRST_OF_STEP:]
    path: tuple[str | int, ...] = ()
    if rest[:1] == ("input_mappings",) and len(rest) > 1:
        mapping = step.input_mappings[rest[1]]
        path = tuple(mapping.from_field.split(".")) if mapping.from_step == INPUT else ()
    return fault | {"loc": ("body", "input", *path), "msg": f"Step `{step.id}`: {fault['msg']}"}
