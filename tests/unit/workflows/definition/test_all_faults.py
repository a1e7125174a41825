"""A definition with faults of every kind is told all of them in one answer, in the words of its dialect."""

from typing import Any

import pytest

from compute.api.workflows.bodies import read
from compute.errors import InvalidFields
from compute.workflows.definition.check import check_workflow
from tests.unit.workflows.definitions import SERVING, Body, draw, drawn_from, mapping, refined, step

Place = tuple[str | int, ...]


def faults(body: Body, given: Body | None = None) -> dict[Place, str]:
    """What `POST /workflows/` answers, by location."""
    found = read(body)
    if found.reading is None:
        errors: list[Any] = found.faults
    else:
        with pytest.raises(InvalidFields) as refused, found.in_its_words():
            check_workflow(found.reading.definition, SERVING, given, reading=found.reading, found=found.faults)
        errors = list(refused.value.faults)
    assert len({error["loc"] for error in errors}) == len(errors), errors
    return {tuple(error["loc"][1:]): error["msg"] for error in errors}


def test_nine_kinds_of_fault_of_a_canonical_body_come_together() -> None:
    body = {
        "name": "",
        "colour": "red",
        "input": {"picture": "a.png", "promt": "x"},
        "steps": [
            draw("ok"),
            draw("late", max_retries=99),
            step("strange", "DANCE"),
            refined("one", "two"),
            refined("two", "one"),
            draw("lost", depends_on=["nowhere"]),
            refined("wrong", "ok", "result_sound"),
            draw("config", config={"prompt": "x", "steps": 5000, "colour": "red"}),
            drawn_from("given", "$input", "picture"),
            draw("twice"),
            draw("twice"),
            7,
        ],
    }
    assert faults(body).keys() == {
        ("name",),
        ("colour",),
        ("steps", 1, "max_retries"),
        ("steps", 2, "task_type"),
        ("steps",),
        ("steps", 5, "depends_on", 0),
        ("steps", 6, "input_mappings", 0, "from_field"),
        ("steps", 7, "config", "steps"),
        ("steps", 7, "config", "colour"),
        ("steps", 9, "id"),
        ("steps", 10, "id"),
        ("steps", 11),
    }


def test_the_quick_start_is_told_in_its_own_words() -> None:
    body = {
        "name": "test",
        "colour": "red",
        "steps": [
            {"name": "draw", "type": "generation", "config": {"prompt": "x", "steps": 5000}},
            {"name": "large", "type": "processing", "config": {"operation": "upscale", "scale": 99}},
            {"name": "odd", "type": "processing", "config": {"operation": "sharpen"}, "depends_on": ["nowhere"]},
            {"name": "b/ad", "type": "dance"},
            {"type": "generation", "config": {"prompt": "x"}},
        ],
    }
    found = faults(body)
    assert found.keys() == {
        ("colour",),
        ("steps", 0, "config", "steps"),
        ("steps", 1, "config", "scale"),
        ("steps", 2, "config", "operation"),
        ("steps", 2, "depends_on", 0),
        ("steps", 3, "type"),
        ("steps", 3, "name"),
        ("steps", 4, "name"),
    }
    assert "`name`" in found["steps", 4, "name"]
    assert "`scale`" in found["steps", 1, "config", "scale"]
    assert not any("upscale_factor" in message or "`id`" in message for message in found.values())


def test_a_step_with_several_faults_is_told_all_of_them() -> None:
    wrong = draw("b", mapping("a", "seed", "prompt"), mapping("a", "prompt", "colour"), config={"width": 17.5})
    assert faults({"name": "test", "steps": [draw("a"), wrong]}).keys() == {
        ("steps", 1, "input_mappings", 0, "to_field"),
        ("steps", 1, "input_mappings", 1, "to_field"),
        ("steps", 1, "config", "width"),
    }


def test_what_cannot_be_read_is_no_fault_of_those_who_wait_for_it() -> None:
    broken = draw("a", config="red")
    assert faults({"name": "test", "steps": [broken, refined("b", "a"), draw("c", depends_on=["a"])]}).keys() == {
        ("steps", 0, "config")
    }


@pytest.mark.parametrize("name", ["promt", "image_url"])
def test_an_input_that_no_step_reads_is_named_with_those_that_are_read(name: str) -> None:
    body = {"name": "test", "input": {"words": "x", name: "y"}, "steps": [drawn_from("a", "$input", "words")]}
    found = faults(body, given=body["input"])
    assert found.keys() == {("input", name)}
    assert "words" in found["input", name]


def test_at_most_a_hundred_are_told() -> None:
    steps = [draw(f"s{number}", depends_on=["nowhere"]) for number in range(150)]
    assert len(faults({"name": "test", "steps": steps})) == 100
