"""From a body of `POST /workflows/` to a definition. What the steps look like chooses the dialect.

The quick start's steps have `name` and `type`, and take their images from each other without saying so; here that
becomes the mappings that a canonical definition would have.
"""

from collections.abc import Sequence
from typing import Any

from compute.api.dialect import Dialect
from compute.errors import InvalidInput
from compute.orders.order import named_kind, validated
from compute.schemas.enums import TaskType, TransformType
from compute.schemas.quickstart_workflows import QuickstartCreateWorkflow
from compute.schemas.workflows import CreateWorkflow, FieldMapping, WorkflowStepDefinition
from compute.tasks.registry import TaskKind, kind_named, kind_of
from compute.workflows.fields import names_of, required_fields, source_shapes, target_shapes
from compute.workflows.plan import INPUT

__all__ = ["definition_of", "with_image"]

_OPERATIONS: dict[str, tuple[TaskType, dict[str, str]]] = {
    "upscale": (TaskType.REFINE, {"scale": "upscale_factor"}),
    "remove-background": (TaskType.BACKGROUND_REMOVAL, {}),
}
"""What the quick start calls `processing`: the type that does it, and other names of its fields."""

_OUTPUTS = ("result_image_paths", "result_image_path")
_IMAGE = "image_url"


def definition_of(body: dict[str, Any]) -> tuple[CreateWorkflow, Dialect]:
    """The definition that a body amounts to, and the dialect in which it is written.

    Raises:
        InvalidInput, RequestValidationError: it is none.
    """
    steps = body.get("steps")
    if isinstance(steps, list) and any(isinstance(step, dict) and _is_quickstart(step) for step in steps):
        return _translated(body), Dialect.QUICKSTART
    if isinstance(steps, list):
        body = body | {"steps": [_with_known_type(step) for step in steps]}
    return validated(CreateWorkflow, body), Dialect.CANONICAL


def with_image(definition: CreateWorkflow) -> CreateWorkflow:
    """The definition with the quick start's input image handed to the steps that start from one and have none yet."""
    if _IMAGE not in (definition.input or {}):
        return definition
    steps = [step if step.depends_on or _has_image(step) else _mapped(step, INPUT, _IMAGE) for step in definition.steps]
    return definition.model_copy(update={"steps": steps})


def _is_quickstart(step: dict[str, Any]) -> bool:
    return "type" in step and "task_type" not in step


def _with_known_type(step: Any) -> Any:
    """The step with the type's own name, where requests may use another one."""
    if not isinstance(step, dict) or not isinstance(step.get("task_type"), str):
        return step
    try:
        return step | {"task_type": kind_named(step["task_type"]).name}
    except KeyError:
        return step


def _translated(body: dict[str, Any]) -> CreateWorkflow:
    validated(QuickstartCreateWorkflow, body)
    steps = [_step(place, step) for place, step in enumerate(body["steps"])]
    definition = validated(CreateWorkflow, {"origin_instance": "default"} | body | {"steps": steps})
    return definition.model_copy(update={"steps": _wired(definition.steps)})


def _step(place: int, step: dict[str, Any]) -> dict[str, Any]:
    """The step as a canonical one, as far as that can be said of it alone."""
    rest = {name: value for name, value in step.items() if name not in ("name", "type", "config")}
    task_type, config = step["type"], dict(step.get("config") or {})
    if str(task_type).lower() == "processing":
        task_type, config = _operation(place, config)
    kind = named_kind(task_type, field=f"steps.{place}.type")
    return {"id": step["name"], "task_type": kind.name, "config": config} | rest


def _operation(place: int, config: dict[str, Any]) -> tuple[TaskType, dict[str, Any]]:
    operation = config.pop("operation", None)
    if not isinstance(operation, str) or operation not in _OPERATIONS:
        known = ", ".join(_OPERATIONS)
        raise InvalidInput(f"There is no such operation; known: {known}.", field=f"steps.{place}.config.operation")
    task_type, names = _OPERATIONS[operation]
    return task_type, {names.get(name, name): value for name, value in config.items()}


def _wired(steps: Sequence[WorkflowStepDefinition]) -> list[WorkflowStepDefinition]:
    """The steps with their images handed on: from the first step before that makes any, else from the input."""
    kinds = {step.id: kind_of(step.task_type) for step in steps}
    wired = []
    for step in steps:
        sources = [(parent, field) for parent in step.depends_on if (field := _images_of(kinds.get(parent)))]
        if not _has_image(step) and sources:
            step = _mapped(step, *sources[0])
        elif not _has_image(step) and not step.depends_on and _needs_image(kinds[step.id]):
            step = _mapped(step, INPUT, _IMAGE)
        wired.append(step)
    return wired


def _images_of(kind: TaskKind[Any] | None) -> str | None:
    return next((field for field in _OUTPUTS if kind and field in source_shapes(kind)), None)


def _has_image(step: WorkflowStepDefinition) -> bool:
    """Whether it says itself where its image comes from."""
    kind = kind_of(step.task_type)
    named = {name for field in kind.image_fields for name in names_of(kind, field)}
    return bool(step.input_mappings or named & step.config.keys())


def _needs_image(kind: TaskKind[Any]) -> bool:
    return any(kind.image_fields[0] in names for names in required_fields(kind))


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
