"""The two dialects of `POST /workflows/`."""

from typing import Any

import pytest

from compute.api.dialect import Dialect
from compute.api.workflows.bodies import definition_of, with_image
from compute.errors import InvalidFields
from compute.schemas.workflows import CreateWorkflow
from compute.workflows.definition.check import check_workflow
from tests.unit.workflows.definitions import SERVING, definition, draw, mapping, refined, spread_of

Body = dict[str, Any]


def step(name: str, step_type: str, *depends_on: str, **config: Any) -> Body:
    return {"name": name, "type": step_type, "config": config, "depends_on": list(depends_on)}


def drawing(name: str = "draw", *depends_on: str) -> Body:
    return step(name, "generation", *depends_on, prompt="a red dress")


def upscaled(name: str, *depends_on: str, **config: Any) -> Body:
    return step(name, "processing", *depends_on, operation="upscale", **config)


def cut_out(name: str, *depends_on: str, **config: Any) -> Body:
    return step(name, "processing", *depends_on, operation="remove-background", **config)


def translated(*steps: Body, **more: Any) -> CreateWorkflow:
    """The definition; it must be one that can run."""
    found, dialect = definition_of({"name": "test", "steps": list(steps), **more})
    assert dialect is Dialect.QUICKSTART
    check_workflow(found, SERVING, None, also_read={"image_url"})
    return found


def mappings(found: CreateWorkflow) -> dict[str, list[tuple[str, str, str]]]:
    return {
        step.id: [(one.from_step, one.from_field, one.to_field) for one in step.input_mappings] for step in found.steps
    }


# --- canonical bodies ------------------------------------------------------------------------------------------------


def test_a_canonical_body_is_the_definition() -> None:
    body = {
        "name": "test",
        "origin_instance": "tests",
        "steps": [draw("a"), draw("b", depends_on=["a"]), refined("c", "a")],
        "input": {"image_url": "in.png"},
    }
    found, dialect = definition_of(body)
    assert dialect is Dialect.CANONICAL
    assert found == CreateWorkflow.model_validate(body)
    assert mappings(found) == {"a": [], "b": [], "c": [("a", "result_image_path", "base_image_url")]}


@pytest.mark.parametrize("steps", [None, {}, [], "draw", [7]])
def test_a_body_without_steps_is_refused_as_a_canonical_one(steps: Any) -> None:
    with pytest.raises(InvalidFields) as refused:
        definition_of({"name": "test", "origin_instance": "tests", "steps": steps})
    assert {fault["loc"][:2] for fault in refused.value.faults} == {("body", "steps")}


def test_without_an_origin_a_body_comes_from_the_default_one_as_those_of_tasks_do() -> None:
    assert definition_of({"name": "test", "steps": [draw("a")]})[0].origin_instance == "default"


# --- what quick-start steps say --------------------------------------------------------------------------------------


def test_a_quick_start_step_becomes_a_canonical_one() -> None:
    found = translated(drawing(), drawing("again", "draw"))
    first, second = found.steps
    assert (first.id, first.task_type, first.config) == ("draw", "GENERATION", {"prompt": "a red dress"})
    assert (second.id, second.depends_on) == ("again", ["draw"])
    assert found.origin_instance == "default"


def test_the_fields_of_a_canonical_body_and_step_may_be_there_as_well() -> None:
    found = translated(drawing() | {"max_retries": 7, "requires_approval": True}, origin_instance="shop", reuse=True)
    assert (found.steps[0].max_retries, found.steps[0].requires_approval) == (7, True)
    assert (found.origin_instance, found.reuse) == ("shop", True)


@pytest.mark.parametrize(
    ("operation", "config", "task_type", "fields"),
    [
        ("upscale", {"scale": 2}, "REFINE", {"upscale_factor": 2}),
        ("upscale", {"upscale_steps": 9}, "REFINE", {"upscale_steps": 9}),
        ("remove-background", {"output_format": "webp"}, "BACKGROUND_REMOVAL", {"output_format": "webp"}),
    ],
)
def test_an_operation_is_a_task_type_with_fields_of_its_own(
    operation: str, config: Body, task_type: str, fields: Body
) -> None:
    made = translated(drawing(), step("then", "processing", "draw", operation=operation, **config)).steps[1]
    assert (made.task_type, made.config) == (task_type, fields)


@pytest.mark.parametrize("name", ["refine", "REFINE", "Refine"])
def test_a_step_may_name_any_task_type_in_any_case(name: str) -> None:
    assert translated(step("a", name, base_image_url="in.png")).steps[0].task_type == "REFINE"


def test_a_step_may_name_a_task_type_by_its_alias() -> None:
    assert translated(step("a", "background_remove", image_url="in.png")).steps[0].task_type == "BACKGROUND_REMOVAL"


@pytest.mark.parametrize("operation", ["sharpen", "", None, 7, ["upscale"]])
def test_an_unknown_operation_is_named_by_its_place_with_those_that_there_are(operation: Any) -> None:
    with pytest.raises(InvalidFields) as refused:
        definition_of({"name": "test", "steps": [drawing(), step("then", "processing", operation=operation)]})
    (fault,) = refused.value.faults
    assert fault["loc"] == ("body", "steps", 1, "config", "operation")
    assert "upscale, remove-background" in fault["msg"]


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ({"id": "then"}, ("name",)),
        ({"task_type": "EDITING"}, ("type",)),
        ({"task_type": "REFINE", "id": "a"}, ("name",)),
        ({"config": {"operation": "upscale", "scale": 2, "upscale_factor": 4}}, ("config", "scale")),
    ],
)
def test_two_names_of_one_thing_in_a_step_are_refused(said: Body, place: tuple[str, ...]) -> None:
    upscaling = step("then", "processing", "draw", operation="upscale")
    with pytest.raises(InvalidFields) as refused:
        definition_of({"name": "test", "steps": [drawing(), upscaling | said]})
    first = refused.value.faults[0]
    assert first["loc"] == ("body", "steps", 1, *place)
    assert first["msg"].startswith(f"Field `{place[-1]}` means the same as ")


@pytest.mark.parametrize(("named", "place"), [({"id": "$a"}, "id"), ({"name": "$a"}, "name"), ({}, "name")])
def test_a_wrong_name_is_called_as_the_step_calls_it(named: Body, place: str) -> None:
    with pytest.raises(InvalidFields) as refused:
        definition_of({"name": "test", "steps": [drawing(), named | {"type": "generation"}]})
    assert [fault["loc"] for fault in refused.value.faults] == [("body", "steps", 1, place)]


def test_a_processing_step_without_an_operation_is_refused() -> None:
    with pytest.raises(InvalidFields) as refused:
        definition_of({"name": "test", "steps": [{"name": "then", "type": "processing"}]})
    assert [fault["loc"] for fault in refused.value.faults] == [("body", "steps", 0, "config", "operation")]


@pytest.mark.parametrize("name", ["dance", ""])
def test_an_unknown_type_is_named_by_its_place_with_those_that_there_are(name: str) -> None:
    with pytest.raises(InvalidFields) as refused:
        definition_of({"name": "test", "steps": [drawing(), step("then", name)]})
    (fault,) = refused.value.faults
    assert fault["loc"] == ("body", "steps", 1, "type")
    assert "GENERATION" in fault["msg"]


def test_dialects_are_not_mixed() -> None:
    with pytest.raises(InvalidFields) as refused:
        definition_of({"name": "test", "steps": [drawing(), draw("b")]})
    assert {fault["loc"] for fault in refused.value.faults} == {("body", "steps", 1, n) for n in ("name", "type")}


# --- images are handed on --------------------------------------------------------------------------------------------


def test_a_step_takes_all_images_of_the_step_before() -> None:
    found = translated(drawing(), upscaled("large", "draw", scale=2), cut_out("cut", "large"))
    assert mappings(found) == {
        "draw": [],
        "large": [("draw", "result_image_paths", "base_image_url")],
        "cut": [("large", "result_image_path", "input_image_paths")],
    }
    assert spread_of(check_workflow(found, SERVING, None)) == {"draw": set(), "large": {"base_image_url"}, "cut": set()}


def test_a_type_that_takes_a_list_gets_all_images_in_one_task() -> None:
    found = translated(drawing(), cut_out("cut", "draw"))
    assert spread_of(check_workflow(found, SERVING, None))["cut"] == set()
    assert found.steps[1].input_mappings[0].transform == "LIST"


def test_of_several_steps_before_the_first_that_makes_images_counts() -> None:
    found = translated(drawing("a"), drawing("b"), upscaled("large", "b", "a"))
    assert mappings(found)["large"] == [("b", "result_image_paths", "base_image_url")]
    clip = step("clip", "video_generation", input_image_url="in.png")
    found, _ = definition_of({"name": "test", "steps": [clip, drawing(), upscaled("large", "clip", "draw")]})
    assert mappings(found)["large"] == [("draw", "result_image_paths", "base_image_url")]


def test_a_step_that_names_its_image_keeps_it() -> None:
    found = translated(drawing(), upscaled("large", "draw", base_image_url="mine.png"))
    assert mappings(found)["large"] == []


def test_a_step_that_has_mappings_keeps_them() -> None:
    own = mapping("a", "result_image_path", "base_image_url")
    found = translated(drawing("a"), drawing("b"), upscaled("large", "b") | {"input_mappings": [own]})
    assert mappings(found)["large"] == [("a", "result_image_path", "base_image_url")]


@pytest.mark.parametrize(
    ("step_type", "config"),
    [
        ("background_fix", {"background_image_url": "beach.png"}),
        ("detail_enhancer", {"reference_image": "logo.png"}),
        ("editing", {"prompt": "put this on", "reference_images": ["hat.png"]}),
    ],
)
def test_a_picture_to_look_at_is_not_the_picture_to_work_on(step_type: str, config: Body) -> None:
    found = definition_of({"name": "test", "steps": [drawing(), step("then", step_type, "draw", **config)]})[0]
    assert mappings(found)["then"] == [("draw", "result_image_paths", "base_image")]


def test_a_language_model_is_shown_all_images_of_the_step_before() -> None:
    steps = [drawing(), step("look", "llm_interaction", "draw", prompt="Which colour?")]
    found, _ = definition_of({"name": "test", "steps": steps})
    assert mappings(found)["look"] == [("draw", "result_image_paths", "input_images")]


def test_a_type_that_takes_no_image_gets_none() -> None:
    call = step("call", "experimental_fal", "draw", fal_app_id="fal-ai/flux/dev")
    found, _ = definition_of({"name": "test", "steps": [drawing(), call]})
    assert mappings(found)["call"] == []
    alone, _ = definition_of({"name": "test", "steps": [call | {"depends_on": []}], "input": {"image_url": "in.png"}})
    assert mappings(with_image(alone)) == {"call": []}


# --- an image to start from ------------------------------------------------------------------------------------------


def test_a_first_step_that_needs_an_image_gets_that_of_the_input() -> None:
    assert mappings(translated(upscaled("large"))) == {"large": [("$input", "image_url", "base_image_url")]}
    assert mappings(translated(cut_out("cut"))) == {"cut": [("$input", "image_url", "input_image_paths")]}


@pytest.mark.parametrize("first", [upscaled("first"), cut_out("first"), drawing("first")])
def test_with_an_input_image_the_workflow_can_run(first: Body) -> None:
    found = with_image(translated(first, upscaled("then", "first"), input={"image_url": "in.png"}))
    assert mappings(found)["first"][0][:2] == ("$input", "image_url")
    assert mappings(found)["then"][0][0] == "first"
    check_workflow(found, SERVING, found.input)


def test_without_one_the_step_that_needs_it_is_named() -> None:
    with pytest.raises(InvalidFields, match="image_url") as refused:
        check_workflow(with_image(translated(upscaled("large"))), SERVING, {})
    assert [fault["loc"] for fault in refused.value.faults] == [("body", "steps", 0, "input_mappings", 0, "from_field")]


def test_a_drawing_starts_from_the_input_image_only_if_there_is_one() -> None:
    without = translated(drawing())
    assert with_image(without) == without
    given = without.model_copy(update={"input": {"image_url": "in.png"}})
    assert mappings(with_image(given)) == {"draw": [("$input", "image_url", "input_image_url")]}


def test_steps_that_have_an_image_or_a_step_before_them_are_left_alone() -> None:
    own = definition(draw("a", config={"prompt": "x", "reference_image_url": "mine.png"}), draw("b", depends_on=["a"]))
    given = own.model_copy(update={"input": {"image_url": "in.png"}})
    assert with_image(given) == given
