"""Refusals of definitions, and the places in the body that they name."""

from typing import Any

import pytest
from pydantic import ValidationError

from compute.errors import InvalidFields
from compute.schemas.enums import TaskType
from tests.unit.workflows.definitions import (
    Body,
    checked,
    definition,
    draw,
    drawn_from,
    faults,
    mapping,
    refined,
    step,
)

Loc = tuple[str | int, ...]


def of_mapping(index: int, name: str, mapping: int = 0) -> Loc:
    return ("steps", index, "input_mappings", mapping, name)


def of_config(index: int, *names: str) -> Loc:
    return ("steps", index, "config", *names)


# --- names and edges -------------------------------------------------------------------------------------------------


def test_five_hundred_steps_are_fine_and_one_more_is_not() -> None:
    steps = [draw(f"s{number}") for number in range(501)]
    assert len(checked(*steps[:500]).steps) == 500
    assert faults(*steps) == {("steps",): "501 steps; at most 500 are allowed."}


def test_each_of_two_steps_with_one_name_is_named() -> None:
    message = "There are 2 steps named `a`."
    assert faults(draw("a"), draw("b"), draw("a")) == {("steps", 0, "id"): message, ("steps", 2, "id"): message}


def test_a_dependency_that_there_is_not_is_named_by_its_place() -> None:
    assert faults(draw("a"), draw("b", depends_on=["a", "c"])) == {
        ("steps", 1, "depends_on", 1): "There is no step `c`."
    }


def test_a_source_that_there_is_not_is_named_by_its_place() -> None:
    when = {"from_step": "d", "from_field": "seed"}
    assert faults(draw("a"), refined("b", "c"), draw("e", when=when)) == {
        of_mapping(1, "from_step"): "There is no step `c`.",
        ("steps", 2, "when", "from_step"): "There is no step `d`.",
    }


@pytest.mark.parametrize("name", ["$input", "$config"])
def test_input_and_configuration_are_no_steps_to_wait_for(name: str) -> None:
    assert faults(draw("a", depends_on=[name])).keys() == {("steps", 0, "depends_on", 0)}


def test_other_words_with_a_dollar_are_no_source() -> None:
    assert faults(drawn_from("a", "$inputs", "prompt")).keys() == {of_mapping(0, "from_step")}


def test_steps_that_wait_for_each_other_are_named_with_those_behind_them() -> None:
    found = faults(draw("a"), refined("b", "c"), refined("c", "b"), refined("d", "c"), draw("e", depends_on=["a"]))
    assert found == {("steps",): "These steps can never begin, for they wait for each other: b, c, d."}


def test_a_mapping_and_a_condition_make_cycles_too() -> None:
    when = {"from_step": "b", "from_field": "seed"}
    assert faults(draw("a", when=when), refined("b", "a")).keys() == {("steps",)}
    assert faults(draw("a", depends_on=["a"])).keys() == {("steps",)}


def test_of_a_large_cycle_the_first_twenty_are_named() -> None:
    steps = [draw(f"s{number}", depends_on=[f"s{(number + 1) % 25}"]) for number in range(25)]
    assert faults(*steps)["steps",].endswith("s18, s19 and 5 more.")


# --- mappings --------------------------------------------------------------------------------------------------------


def test_a_field_that_results_do_not_have_is_named_with_those_they_have() -> None:
    found = faults(draw("a"), refined("b", "a", "result_video_path"))
    assert found.keys() == {of_mapping(1, "from_field")}
    message = found[of_mapping(1, "from_field")]
    assert "have no `result_video_path`" in message
    assert "outputs, product2_lora_weight" in message


@pytest.mark.parametrize("path", ["seed.first", "prompt.0", "outputs.path"])
def test_a_path_that_can_lead_nowhere_is_refused(path: str) -> None:
    assert faults(draw("a"), refined("b", "a", path)).keys() == {of_mapping(1, "from_field")}


def test_a_path_into_what_became_a_list_needs_a_place() -> None:
    dealt = [drawn_from("a", "$config", "prompts"), drawn_from("b", "a", "metadata.0.model")]
    assert faults(*dealt, config={"prompts": ["x", "y"]}) == {}
    dealt[1] = drawn_from("b", "a", "metadata.model")
    assert faults(*dealt, config={"prompts": ["x", "y"]}).keys() == {of_mapping(1, "from_field")}


@pytest.mark.parametrize("field", ["base_picture", "task_type", "workflow_id", "origin_tenant_id"])
def test_a_field_that_tasks_do_not_take_is_named(field: str) -> None:
    found = faults(draw("a"), refined("b", "a"), draw("c", mapping("a", "prompt", field)))
    assert found == {of_mapping(2, "to_field"): f"GENERATION has no field `{field}` to fill."}


@pytest.mark.parametrize(
    ("field", "target", "message"),
    [
        ("seed", "prompt", "prompt takes string; it would get number."),
        ("prompt", "seed", "seed takes number; it would get string."),
        ("outputs", "prompt", "prompt takes string; it would get a list of object."),
        ("prompt", "provider_config", "provider_config takes object; it would get string."),
    ],
)
def test_a_value_of_another_type_is_refused_with_both_types(field: str, target: str, message: str) -> None:
    assert faults(draw("a"), draw("b", mapping("a", field, target))) == {of_mapping(1, "to_field"): message}


def test_where_a_list_is_wanted_one_value_is_refused_with_the_way_out() -> None:
    cut = step("b", "BACKGROUND_REMOVAL", mapping("a", "result_image_path", "input_image_paths"))
    assert faults(draw("a"), cut)[of_mapping(1, "to_field")].endswith("The transform LIST makes a list of it.")
    cut["input_mappings"][0]["transform"] = "LIST"
    assert faults(draw("a"), cut) == {}


@pytest.mark.parametrize(
    ("field", "transform", "message"),
    [
        ("prompt", {"transform": "FIRST"}, "FIRST cannot be applied to string."),
        ("seed", {"transform": "INDEX", "index": 0}, "INDEX cannot be applied to number."),
        ("seed", {"transform": "URL"}, "URL cannot be applied to number."),
        ("outputs", {"transform": "BASE64"}, "BASE64 cannot be applied to a list of object."),
    ],
)
def test_a_transform_that_can_never_be_applied_is_refused(field: str, transform: Body, message: str) -> None:
    found = faults(draw("a"), draw("b", mapping("a", field, "prompt", **transform)))
    assert found == {of_mapping(1, "transform"): message}


@pytest.mark.parametrize("wrong", [{"transform": "INDEX"}, {"index": 0}, {"transform": "LAST", "index": 0}])
def test_an_index_without_the_transform_index_is_no_definition(wrong: Body) -> None:
    with pytest.raises(ValidationError, match="`index` and `transform` go together"):
        definition(draw("a"), drawn_from("b", "a", "prompt", **wrong))


@pytest.mark.parametrize("also", ["configured", "mapped"])
def test_a_field_that_gets_values_under_two_names_is_refused(also: str) -> None:
    """POST /tasks/ refuses both names at once, so every task of the step would be refused."""
    config = {"base_image": "mine.png"} if also == "configured" else {}
    mappings = [mapping("a", "result_image_path", "base_image")] if also == "mapped" else []
    refine = step("b", "REFINE", mapping("a", "result_image_path", "base_image_url"), *mappings, config=config)
    assert {loc[:2] for loc in faults(draw("a"), refine)} == {("steps", 1)}


# --- configuration of steps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["workflow_id", "origin_instance", "origin_zone", "origin_tenant_id"])
def test_what_tasks_get_from_their_workflow_is_not_a_step_s_to_say(field: str) -> None:
    found = faults(draw("a"), draw("b", config={"prompt": "x", field: "mine"}))
    assert found == {of_config(1, field): "Tasks get this from their workflow."}


def test_the_type_of_the_tasks_is_said_once() -> None:
    assert faults(draw("a", config={"prompt": "x", "task_type": "REFINE"})).keys() == {of_config(0, "task_type")}
    assert faults(draw("a", config={"prompt": "x", "task_type": "GENERATION"})) == {}


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"colour": "red"}, ("colour",)),
        ({"steps": 5000}, ("steps",)),
        ({"steps": "many"}, ("steps",)),
        ({"width": 1.5}, ("width",)),
        ({"prompt": " "}, ("prompt",)),
        ({"prompt": None}, ("prompt",)),
        ({"queue_name": "nowhere"}, ("queue_name",)),
        ({"queue_name": "image"}, ("queue_name",)),
        ({"provider_type": "VERTEX"}, ("provider_type",)),
        ({"active_provider_capabilities": ["TEXT"]}, ("active_provider_capabilities",)),
        ({"active_provider_capabilities": [7]}, ("active_provider_capabilities", "0")),
    ],
)
def test_what_a_task_would_be_refused_for_is_named_by_its_place(config: Body, names: Loc) -> None:
    found = faults(draw("a"), draw("b", config={"prompt": "x"} | config))
    assert [tuple(map(str, loc)) for loc in found] == [("steps", "1", "config", *names)]


def test_a_field_that_nothing_gives_is_missed() -> None:
    assert faults(draw("a", config={})) == {of_config(0, "prompt"): "Field `prompt` is required."}
    assert faults(draw("a"), step("b", "REFINE", depends_on=["a"])).keys() == {of_config(1, "base_image_url")}


def test_what_is_wrong_beside_a_field_that_is_not_known_yet_is_found_all_the_same() -> None:
    found = faults(draw("a"), refined("b", "a", config={"upscale_factor": 99, "colour": "red"}))
    assert found.keys() == {of_config(1, "upscale_factor"), of_config(1, "colour")}


def test_a_step_whose_queue_nobody_serves_is_refused() -> None:
    found = faults(step("a", "VIDEO_GENERATION", config={"input_image_url": "in.png"}))
    assert "`video`; served: image, inference, refine" in found[of_config(0, "queue_name")]


PROVIDER_FAULTS: list[tuple[Body, Loc]] = [
    ({"active_provider_capabilities": ["TEXT"]}, ("active_provider_capabilities",)),
    ({"fallback_provider_type": "VERTEX"}, ("fallback_provider_type",)),
    ({"provider_config": {"provider_type": "VERTEX"}}, ("provider_config", "provider_type")),
]


@pytest.mark.parametrize("said", [said for said, _ in PROVIDER_FAULTS])
def test_a_provider_that_cannot_do_it_is_refused(said: Body) -> None:
    found = faults(draw("a"), draw("b", **said))
    assert [loc[:2] for loc in found] == [("steps", 1)]


@pytest.mark.parametrize(("said", "loc"), PROVIDER_FAULTS)
def test_a_fault_of_a_provider_is_named_where_it_was_said(said: Body, loc: Loc) -> None:
    assert faults(draw("a", **said)).keys() == {("steps", 0, *loc)}


# --- input and configuration of the workflow -------------------------------------------------------------------------


def test_a_value_that_the_input_lacks_is_missed_once_the_input_is_known() -> None:
    steps = [draw("a"), drawn_from("b", "$input", "words.first")]
    assert faults(*steps) == {}
    assert faults(*steps, given={"words": {"first": "x"}}) == {}
    for given in ({}, {"words": {}}, {"words": {"first": None}}, {"words": "x"}):
        assert faults(*steps, given=given) == {of_mapping(1, "from_field"): "$input has no value `words.first`."}


@pytest.mark.parametrize("value", [7, True, {"a": 1}, [7], [[["x"]]]])
def test_an_input_of_another_type_is_refused(value: Any) -> None:
    found = faults(drawn_from("a", "$input", "prompt"), given={"prompt": value})
    assert found.keys() == {of_mapping(0, "to_field")}


@pytest.mark.parametrize("value", ["", " ", "x" * 10_001, ["", "x"]])
def test_an_input_that_the_task_would_refuse_is_named_by_its_mapping(value: Any) -> None:
    assert faults(drawn_from("a", "$input", "prompt"), given={"prompt": value}).keys() == {of_mapping(0, "from_field")}


def test_a_queue_from_the_input_is_looked_for_once_it_is_known() -> None:
    queued = draw("a", mapping("$input", "queue", "queue_name"))
    assert faults(queued) == {}
    assert faults(queued, given={"queue": "refine"}) == {}
    assert faults(queued, given={"queue": "nowhere"}).keys() == {of_mapping(0, "from_field")}


def test_values_of_the_configuration_are_known_from_the_start() -> None:
    wide = draw("a", mapping("$config", "size.width", "width"))
    assert faults(wide, config={"size": {"width": 512}}) == {}
    assert faults(wide, config={"size": {}}).keys() == {of_mapping(0, "from_field")}
    assert faults(wide, config={"size": {"width": 5}}).keys() == {of_mapping(0, "from_field")}
    assert faults(wide, config={"size": {"width": "wide"}}).keys() == {of_mapping(0, "to_field")}


def test_of_two_values_for_a_field_the_one_that_counts_is_checked() -> None:
    twice = draw("a", mapping("$config", "first", "steps"), mapping("$config", "second", "steps"))
    assert faults(twice, config={"first": 5000, "second": 20}).keys() == {of_mapping(0, "from_field")}


# --- conditions ------------------------------------------------------------------------------------------------------


def test_a_condition_on_a_field_that_there_is_not_is_refused() -> None:
    when = {"from_step": "a", "from_field": "result_video_path"}
    assert faults(draw("a"), draw("b", when=when)).keys() == {("steps", 1, "when", "from_field")}


@pytest.mark.parametrize("source", ["$input", "$config"])
def test_a_condition_may_ask_for_a_value_that_is_not_given(source: str) -> None:
    when = {"from_step": source, "from_field": "hurry", "op": "exists"}
    assert faults(draw("a", when=when), given={}) == {}


@pytest.mark.parametrize("wrong", [{"op": "like"}, {"from_field": "a..b"}, {"from_field": ""}, {"values": [1]}])
def test_a_condition_must_be_one(wrong: Body) -> None:
    with pytest.raises(ValidationError, match="when"):
        definition(draw("a"), draw("b", when={"from_step": "a", "from_field": "seed"} | wrong))


@pytest.mark.parametrize("value", [None, 7])
def test_a_condition_with_in_needs_a_list(value: Any) -> None:
    when = {"from_step": "a", "from_field": "seed", "op": "in", "value": value}
    with pytest.raises((ValidationError, InvalidFields), match="when"):
        checked(draw("a"), draw("b", when=when))


# --- several at once -------------------------------------------------------------------------------------------------


def test_everything_that_is_wrong_is_said_at_once_and_each_fault_has_its_place() -> None:
    found = faults(
        draw("a", config={"prompt": "x", "origin_zone": "eu"}),
        refined("b", "a", "result_audio_path"),
        refined("c", "b", config={"upscale_factor": 99}),
        draw("d", mapping("a", "seed", "seed"), mapping("a", "seed", "negative_prompt"), mapping("a", "x", "prompt")),
    )
    assert found.keys() == {
        of_config(0, "origin_zone"),
        of_mapping(1, "from_field"),
        of_config(2, "upscale_factor"),
        of_mapping(3, "to_field", 1),
        of_mapping(3, "from_field", 2),
    }


def test_names_that_are_wrong_in_two_ways_are_said_together() -> None:
    found = faults(draw("a"), draw("a"), step("b", TaskType.LLM_INTERACTION))
    assert found.keys() == {("steps", 0, "id"), ("steps", 1, "id"), of_config(2, "prompt")}


def test_places_are_those_of_the_body_whatever_the_order_of_the_run() -> None:
    assert faults(refined("late", "early", "nothing"), draw("early")).keys() == {of_mapping(0, "from_field")}


def test_at_most_a_hundred_faults_are_listed() -> None:
    with pytest.raises(InvalidFields) as refused:
        checked(*(draw(f"s{number}", config={}) for number in range(150)))
    assert len(refused.value.faults) == 100


def test_a_fault_does_not_repeat_the_input() -> None:
    secret = "sesame" * 3
    found = faults(drawn_from("a", "$input", "prompt"), draw("b", config={"prompt": [secret]}), given={"prompt": 7})
    assert len(found) == 2
    assert secret not in str(found)
