"""From a body of `POST /workflows/` to a definition. What the steps look like chooses the dialect.

The quick start's steps have `name` and `type`, and take their images from each other without saying so; here that
becomes the mappings that a canonical definition would have.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from compute.api.dialect import Dialect
from compute.api.workflows.reading import Body, read_body
from compute.errors import InvalidFields
from compute.schemas.enums import TransformType
from compute.schemas.workflows import CreateWorkflow, FieldMapping, WorkflowStepDefinition
from compute.tasks.registry import TaskKind, kind_of
from compute.workflows.definition.fields import names_of, required_fields, source_shapes, target_shapes
from compute.workflows.plan import INPUT

__all__ = ["definition_of", "read", "with_image"]

_OUTPUTS = ("result_image_paths", "result_image_path")
_IMAGE = "image_url"


def read(body: dict[str, Any]) -> Body:
    """Read a body as far as it can be read; the quick start's steps get mappings that hand on their images."""
    found = read_body(body)
    if (reading := found.reading) is not None and found.dialect is Dialect.QUICKSTART:
        opaque = {index for index, sent in enumerate(reading.indices) if sent in reading.unknown}
        steps = _wired(reading.definition.steps, opaque)
        found.reading = replace(reading, definition=reading.definition.model_copy(update={"steps": steps}))
    return found


def definition_of(body: dict[str, Any]) -> tuple[CreateWorkflow, Dialect]:
    """The definition that a body amounts to, and the dialect in which it is written.

    Raises:
        InvalidFields: it is none.
    """
    found = read(body)
    if found.faults or found.reading is None:
        raise InvalidFields(found.faults)
    return found.reading.definition, found.dialect


def with_image(definition: CreateWorkflow) -> CreateWorkflow:
    """The definition with the quick start's input image handed to the steps that start from one and have none yet."""
    if _IMAGE not in (definition.input or {}):
        return definition
    steps = [
        _mapped(step, INPUT, _IMAGE) if _lacks_image(step) and not step.depends_on else step
        for step in definition.steps
    ]
    return definition.model_copy(update={"steps": steps})


def _wired(steps: Sequence[WorkflowStepDefinition], opaque: set[int]) -> list[WorkflowStepDefinition]:
    """The steps with their images handed on: from the first step before that makes any, else from the input. Of those
    at the indices `opaque` nobody knows what they do."""
    kinds = {step.id: kind_of(step.task_type) for index, step in enumerate(steps) if index not in opaque}
    wired = []
    for index, step in enumerate(steps):
        if index in opaque:
            wired.append(step)
            continue
        sources = [(parent, field) for parent in step.depends_on if (field := _images_of(kinds.get(parent)))]
        if sources and _lacks_image(step):
            step = _mapped(step, *sources[0])
        elif _lacks_image(step) and not step.depends_on and _needs_image(kinds[step.id]):
            step = _mapped(step, INPUT, _IMAGE)
        wired.append(step)
    return wired


def _images_of(kind: TaskKind[Any] | None) -> str | None:
    return next((field for field in _OUTPUTS if kind and field in source_shapes(kind)), None)


def _lacks_image(step: WorkflowStepDefinition) -> bool:
    """Whether it takes an image, and does not say itself where that comes from."""
    kind = kind_of(step.task_type)
    named = {name for field in kind.image_fields for name in names_of(kind, field)}
    return bool(kind.image_fields) and not step.input_mappings and not named & step.config.keys()


def _needs_image(kind: TaskKind[Any]) -> bool:
    return any(field in names for field in kind.image_fields[:1] for names in required_fields(kind))


def _mapped(step: WorkflowStepDefinition, source: str, field: str) -> WorkflowStepDefinition:
    kind = kind_of(step.task_type)
    takes_list = target_shapes(kind)[kind.image_fields[0]].is_list
    mapping = FieldMapping(
        from_step=source,
        from_field=field,
        to_field=kind.image_fields[0],
        transform=TransformType.LIST if takes_list else None,
    )
    return step.model_copy(update={"input_mappings": [mapping]})
