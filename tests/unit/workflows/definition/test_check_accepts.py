"""Definitions that can run, and what their steps get from each other."""

import pytest

from compute.workflows.definition.body import static_body
from compute.workflows.definition.check import CheckedWorkflow
from compute.workflows.definition.mapping import bodies
from tests.unit.workflows.definitions import (
    Body,
    checked,
    draw,
    drawn_from,
    faults,
    mapping,
    refined,
    spread_of,
    step,
)


def dependencies(workflow: CheckedWorkflow) -> dict[str, tuple[str, ...]]:
    return {step.definition.id: step.dependencies for step in workflow.steps}


# --- the DAG ---------------------------------------------------------------------------------------------------------


def test_steps_may_be_defined_in_any_order_and_come_back_in_it() -> None:
    workflow = checked(refined("large", "a"), draw("b", depends_on=["a"]), draw("a"))
    assert list(dependencies(workflow)) == ["large", "b", "a"]


def test_mappings_and_conditions_make_dependencies_and_none_is_named_twice() -> None:
    when = {"from_step": "b", "from_field": "seed"}
    joined = draw("d", mapping("a", "prompt", "prompt"), mapping("b", "seed", "seed"), depends_on=["c", "a"], when=when)
    workflow = checked(draw("a"), draw("b"), draw("c"), joined)
    assert dependencies(workflow)["d"] == ("c", "a", "b")


def test_input_and_configuration_are_no_dependencies() -> None:
    when = {"from_step": "$config", "from_field": "hurry"}
    assert dependencies(checked(draw("a", mapping("$input", "seed", "seed"), when=when))) == {"a": ()}


def test_the_final_step_is_the_last_on_which_no_other_depends() -> None:
    assert checked(draw("a"), refined("b", "a"), draw("c"), draw("d", depends_on=["c"])).final_step_id == "d"
    assert checked(refined("b", "a"), draw("a")).final_step_id == "b"


# --- lists -----------------------------------------------------------------------------------------------------------


def test_a_list_that_meets_a_field_for_one_value_is_dealt_to_tasks() -> None:
    workflow = checked(draw("a"), refined("b", "a", "result_image_paths"), refined("c", "a"))
    assert spread_of(workflow) == {"a": set(), "b": {"base_image_url"}, "c": set()}


def test_a_list_that_meets_a_list_stays_one() -> None:
    cut = step("b", "BACKGROUND_REMOVAL", mapping("a", "result_image_paths", "input_image_paths"))
    assert spread_of(checked(draw("a"), cut))["b"] == set()


@pytest.mark.parametrize("transform", [{"transform": "FIRST"}, {"transform": "INDEX", "index": -1}])
def test_one_element_of_a_list_makes_one_task(transform: Body) -> None:
    workflow = checked(
        draw("a"), step("b", "REFINE", mapping("a", "result_image_paths", "base_image_url", **transform))
    )
    assert spread_of(workflow)["b"] == set()


@pytest.mark.parametrize("field", ["result_image_path", "result_image_paths", "result_image_url", "outputs.0.path"])
def test_what_is_behind_a_dealt_step_has_lists_of_its_single_values(field: str) -> None:
    workflow = checked(
        drawn_from("a", "$input", "prompts"), refined("b", "a", field), refined("c", "b"), given={"prompts": ["x", "y"]}
    )
    dealt = set() if "." in field else {"base_image_url"}
    assert spread_of(workflow) == {"a": {"prompt"}, "b": dealt, "c": dealt}


def test_a_dealt_step_s_results_are_gathered_where_a_list_is_wanted() -> None:
    cut = step("c", "BACKGROUND_REMOVAL", mapping("b", "result_image_path", "input_image_paths"))
    workflow = checked(draw("a"), refined("b", "a", "result_image_paths"), cut)
    assert spread_of(workflow)["c"] == set()


def test_several_lists_are_dealt_together() -> None:
    both = draw("b", mapping("a", "result_image_paths", "input_image_url"), mapping("$config", "seeds", "seed"))
    assert spread_of(checked(draw("a"), both, config={"seeds": [1, 2]}))["b"] == {"input_image_url", "seed"}


def test_a_list_in_the_input_is_known_to_be_one_when_the_input_is() -> None:
    one = drawn_from("a", "$input", "prompts")
    assert spread_of(checked(one)) == {"a": set()}
    assert spread_of(checked(one, given={"prompts": "x"})) == {"a": set()}
    assert spread_of(checked(one, given={"prompts": ["x", "y"]})) == {"a": {"prompt"}}


def test_an_empty_list_is_dealt_too() -> None:
    workflow = checked(drawn_from("a", "$input", "prompts"), refined("b", "a"), given={"prompts": []})
    assert spread_of(workflow) == {"a": {"prompt"}, "b": {"base_image_url"}}


# --- values ----------------------------------------------------------------------------------------------------------


def test_steps_join_what_several_others_made() -> None:
    joined = step(
        "c",
        "BACKGROUND_FIX",
        mapping("a", "result_image_path", "base_image"),
        mapping("b", "result_image_path", "background_image_url"),
    )
    assert faults(draw("a"), draw("b"), joined) == {}


def test_a_field_may_be_filled_under_any_of_its_names() -> None:
    for name in ("base_image", "base_image_url"):
        assert faults(draw("a"), step("b", "REFINE", mapping("a", "result_image_path", name))) == {}


def test_what_comes_by_a_mapping_need_not_be_in_the_configuration() -> None:
    assert faults(draw("a"), drawn_from("b", "a", "prompt")) == {}


def test_a_value_inside_a_result_may_be_anything() -> None:
    assert faults(draw("a"), draw("b", mapping("a", "metadata.timings.total", "seed"))) == {}
    assert faults(draw("a"), drawn_from("b", "a", "metadata", transform="JSON")) == {}


def test_a_number_becomes_text_by_the_transform_string() -> None:
    assert faults(draw("a"), drawn_from("b", "a", "seed", transform="STRING")) == {}


def test_settings_of_providers_go_to_the_tasks() -> None:
    workflow = checked(draw("a", provider_config={"rembg_model": "u2net"}, active_provider_capabilities=["LORA"]))
    assert static_body(workflow.steps[0].definition) == {
        "task_type": "GENERATION",
        "prompt": "a red dress",
        "provider_type": "LOCAL",
        "provider_config": {"rembg_model": "u2net"},
        "active_provider_capabilities": ["LORA"],
    }


def test_what_is_accepted_can_be_dealt_whichever_mapping_has_a_value() -> None:
    """The second mapping is for when `a` has no result; it gives one image where the first gives several."""
    several, one = mapping("a", "result_image_paths", "base_image"), mapping("$input", "image", "base_image")
    steps = [draw("a", continue_on_error=True), step("b", "REFINE", several, one)]
    if faults(*steps, given={"image": "in.png"}):
        return
    spread = checked(*steps, given={"image": "in.png"}).steps[1].spread
    assert len(bodies({}, {"base_image": ["a.png", "b.png"]}, spread)) == 2
    assert bodies({}, {"base_image": "in.png"}, spread) == [{"base_image": "in.png"}]
