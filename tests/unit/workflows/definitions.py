"""Definitions of workflows in few words, and what is wrong with them."""

from collections.abc import Mapping
from typing import Any

from compute.errors import InvalidFields
from compute.requests.serving import ServedModel, Serving
from compute.schemas.workflows import CreateWorkflow, FieldMapping
from compute.workflows.definition.check import CheckedWorkflow, check_workflow

SERVING = Serving(
    {
        "inference": ServedModel("painter"),
        "refine": ServedModel("painter"),
        "image": ServedModel(None, 1, queue="image", roles=frozenset()),
    }
)

Body = dict[str, Any]
Faults = dict[tuple[str | int, ...], str]


def mapping(source: str, field: str, target: str, **more: Any) -> Body:
    return {"from_step": source, "from_field": field, "to_field": target, **more}


def field_mapping(source: str, field: str, target: str = "prompt", **more: Any) -> FieldMapping:
    return FieldMapping.model_validate(mapping(source, field, target, **more))


def step(step_id: str, task_type: str, *mappings: Body, **more: Any) -> Body:
    return {"id": step_id, "task_type": task_type, "input_mappings": list(mappings), **more}


def draw(step_id: str, *mappings: Body, **more: Any) -> Body:
    """A step that has a prompt already, unless `config` is given."""
    return step(step_id, "GENERATION", *mappings, **{"config": {"prompt": "a red dress"}, **more})


def drawn_from(step_id: str, source: str, field: str, **more: Any) -> Body:
    """A step that takes its prompt from elsewhere."""
    return draw(step_id, mapping(source, field, "prompt", **more), config={})


def refined(step_id: str, source: str, field: str = "result_image_path", **more: Any) -> Body:
    """A step that enlarges what another one made."""
    return step(step_id, "REFINE", mapping(source, field, "base_image_url"), **more)


def definition(*steps: Body, **more: Any) -> CreateWorkflow:
    return CreateWorkflow.model_validate({"name": "test", "origin_instance": "tests", "steps": list(steps), **more})


def checked(*steps: Body, given: Mapping[str, Any] | None = None, **more: Any) -> CheckedWorkflow:
    return check_workflow(definition(*steps, **more), SERVING, given)


def spread_of(workflow: CheckedWorkflow) -> dict[str, set[str]]:
    """By step: the fields of which each of its tasks gets an element."""
    return {step.definition.id: set(step.spread) for step in workflow.steps}


def faults(*steps: Body, given: Mapping[str, Any] | None = None, **more: Any) -> Faults:
    """What a definition is refused for, by its location in the body; nothing if it is accepted."""
    errors: list[Any] = []
    try:
        checked(*steps, given=given, **more)
    except InvalidFields as error:
        errors.extend(error.faults)
    assert all(fault["loc"][0] == "body" for fault in errors)
    found = {tuple(fault["loc"][1:]): str(fault["msg"]) for fault in errors}
    assert len(found) == len(errors), "one location is named twice"
    return found
