"""A fault of a value that a workflow was given stands where that value was sent."""

from typing import Any

import pytest

from compute.api.workflows.faults import faults_of_input, faults_of_values
from compute.errors import InvalidFields
from compute.schemas.workflows import CreateWorkflow

Place = tuple[str | int, ...]


def workflow(*mappings: dict[str, Any]) -> CreateWorkflow:
    step = {"id": "large", "task_type": "REFINE", "config": {"strength": 0.5}, "input_mappings": list(mappings)}
    given = {"pic": "n.png", "more": {"pics": ["a.png", "n.png"]}}
    return CreateWorkflow.model_validate({"name": "test", "steps": [step], "input": given, "config": {"pic": "c.png"}})


def mapping(source: str, field: str, **more: Any) -> dict[str, Any]:
    return {"from_step": source, "from_field": field, "to_field": "base_image_url"} | more


def told(faults: Any, definition: CreateWorkflow, *inside: str | int) -> tuple[Place, str]:
    fault = {"loc": ("body", "steps", 0, "config", *inside), "msg": "It is gone.", "type": "invalid_input"}
    with pytest.raises(InvalidFields) as refused, faults(definition):
        raise InvalidFields([fault])
    (found,) = refused.value.faults
    return found["loc"], found["msg"]


@pytest.mark.parametrize(
    ("mappings", "place"),
    [
        ([mapping("$input", "pic")], ("input", "pic")),
        ([mapping("$input", "more.pics.1")], ("input", "more", "pics", 1)),
        ([mapping("$config", "pic")], ("config", "pic")),
        ([mapping("$input", "none"), mapping("$config", "pic")], ("config", "pic")),
        ([], ("steps", 0, "config", "base_image_url")),
    ],
)
def test_it_is_told_by_its_place_in_the_body(mappings: list[dict[str, Any]], place: Place) -> None:
    loc, message = told(faults_of_values, workflow(*mappings), "base_image_url")
    assert loc == ("body", *place)
    assert message == ("Step `large`: It is gone." if mappings else "It is gone.")


def test_an_element_is_told_unless_the_list_was_changed_on_its_way() -> None:
    as_it_is, changed = mapping("$input", "more.pics"), mapping("$input", "pic", transform="LIST")
    assert told(faults_of_values, workflow(as_it_is), "base_image_url", 1)[0] == ("body", "input", "more", "pics", 1)
    assert told(faults_of_values, workflow(changed), "base_image_url", 0)[0] == ("body", "input", "pic")


def test_other_fields_of_the_step_stay_where_they_are() -> None:
    loc, _ = told(faults_of_values, workflow(mapping("$input", "pic")), "strength")
    assert loc == ("body", "steps", 0, "config", "strength")


@pytest.mark.parametrize(("source", "place"), [("$input", ("input", "pic")), ("$config", ("input",))])
def test_a_start_hears_of_its_input_alone(source: str, place: Place) -> None:
    loc, message = told(faults_of_input, workflow(mapping(source, "pic")), "base_image_url")
    assert (loc, message) == (("body", *place), "Step `large`: It is gone.")
