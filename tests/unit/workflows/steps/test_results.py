"""Results of a step's tasks, and the hash of what was asked."""

import uuid
from typing import Any

import pytest

from compute.db.tables import Task
from compute.requests.serving import ServedModel
from compute.tasks.registry import kind_of
from compute.workflows.definition.fields import source_shapes
from compute.workflows.definition.mapping import MISSING, look_up
from compute.workflows.steps.results import content_hash, result_of

DRAW, CUT, CLIP = kind_of("GENERATION"), kind_of("BACKGROUND_REMOVAL"), kind_of("VIDEO_GENERATION")
PAINTER = ServedModel("painter")


def task(task_type: str, *paths: str, metadata: dict[str, Any] | None = None, **spec: Any) -> Task:
    """A completed one, with a file at each of the paths."""
    kind = kind_of(task_type)
    artifacts = [{"path": path, "sha256": f"sha of {path}"} for path in paths]
    return Task(
        id=uuid.uuid4(),
        task_type=kind.name,
        queue=kind.queue,
        spec=spec,
        status="COMPLETED",
        result={"artifacts": artifacts, "metadata": metadata or {}},
    )


def drawn(*paths: str, **spec: Any) -> Task:
    return task("GENERATION", *paths, **{"prompt": "a red dress", "seed": 7, **spec})


# --- results ---------------------------------------------------------------------------------------------------------


def test_the_result_of_one_task_is_its_fields_its_outputs_and_its_metadata() -> None:
    result = result_of(DRAW, [drawn("a.png", "b.png", metadata={"model": "painter"})], many=False)
    assert result["result_image_path"] == "a.png"
    assert result["result_image_paths"] == ["a.png", "b.png"]
    assert [output["path"] for output in result["outputs"]] == ["a.png", "b.png"]
    assert result["metadata"] == {"model": "painter"}
    assert (result["prompt"], result["seed"]) == ("a red dress", 7)


def test_a_field_without_a_value_is_left_out() -> None:
    assert "negative_prompt" not in result_of(DRAW, [drawn("a.png")], many=False)


def test_many_tasks_give_a_list_for_every_field_and_one_list_made_of_lists() -> None:
    tasks = [drawn("a.png", "b.png", seed=1), drawn("c.png", seed=2)]
    result = result_of(DRAW, tasks, many=True)
    assert result["seed"] == [1, 2]
    assert result["result_image_path"] == ["a.png", "c.png"]
    assert result["result_image_paths"] == ["a.png", "b.png", "c.png"]
    assert [output["path"] for output in result["outputs"]] == ["a.png", "b.png", "c.png"]
    assert result["metadata"] == [{}, {}]


def test_one_task_of_a_list_with_one_element_gives_lists_as_well() -> None:
    result = result_of(DRAW, [drawn("a.png")], many=True)
    assert (result["seed"], result["result_image_path"]) == ([7], ["a.png"])


def test_the_lists_of_single_values_stay_in_step_with_the_tasks() -> None:
    result = result_of(DRAW, [drawn("a.png"), drawn("b.png", negative_prompt="blue")], many=True)
    assert result["negative_prompt"] == [None, "blue"]


def test_a_step_without_a_task_has_empty_lists_where_results_would_be() -> None:
    assert result_of(DRAW, [], many=True).keys() >= {"result_image_path", "result_image_paths", "outputs"}
    assert result_of(CLIP, [], many=True).keys() >= {"result_video_path", "outputs"}
    assert all(value == [] for value in result_of(DRAW, [], many=True).values())


def test_everything_that_a_mapping_may_name_is_stored_under_that_name() -> None:
    """All of a type's result fields are there, or what they are made from."""
    cut = task("BACKGROUND_REMOVAL", "a.png", input_image_paths=["in.png"], output_format="png")
    results = {"cut": result_of(CUT, [cut], many=False)}
    assert [name for name in source_shapes(CUT) if look_up(results, "cut", name)[0] is MISSING] == []


# --- hashes ----------------------------------------------------------------------------------------------------------

BODY = {"prompt": "a red dress", "input_image_url": "in.png", "config": {"tags": ["in.png"], "weight": 1}}
SAID = content_hash(DRAW, PAINTER, [BODY], {})


def test_the_same_request_has_the_same_hash_whatever_the_order_of_its_fields() -> None:
    assert content_hash(DRAW, ServedModel("painter"), [dict(reversed(BODY.items()))], {}) == SAID


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a blue dress"},
        {"seed": 1},
        {"prompt": None},
        {"input_image_url": "other.png"},
        {"config": {"tags": ["in.png"], "weight": 2}},
        {"config": {"tags": [], "weight": 1}},
    ],
)
def test_another_value_of_any_field_has_another_hash(change: dict[str, Any]) -> None:
    assert content_hash(DRAW, PAINTER, [BODY | change], {}) != SAID


def test_a_field_less_or_a_task_more_has_another_hash() -> None:
    assert content_hash(DRAW, PAINTER, [{"prompt": BODY["prompt"]}], {}) != SAID
    assert content_hash(DRAW, PAINTER, [BODY, BODY], {}) != SAID
    assert content_hash(DRAW, PAINTER, [], {}) != SAID


def test_another_type_or_model_or_revision_has_another_hash() -> None:
    assert content_hash(CUT, PAINTER, [BODY], {}) != SAID
    for served in (ServedModel("other"), ServedModel("painter", revision="v2"), ServedModel(None), None):
        assert content_hash(DRAW, served, [BODY], {}) != SAID


def test_equal_content_under_different_paths_has_the_same_hash() -> None:
    here = content_hash(DRAW, PAINTER, [{"image": "a.png", "more": [{"path": "b.png"}]}], {"a.png": "1", "b.png": "2"})
    there = content_hash(DRAW, PAINTER, [{"image": "c.png", "more": [{"path": "d.png"}]}], {"c.png": "1", "d.png": "2"})
    assert here == there


def test_other_content_under_the_same_path_has_another_hash() -> None:
    body = [{"image": "a.png", "more": ["b.png"]}]
    known = {"a.png": "1", "b.png": "2"}
    said = content_hash(DRAW, PAINTER, body, known)
    assert content_hash(DRAW, PAINTER, body, known | {"a.png": "3"}) != said
    assert content_hash(DRAW, PAINTER, body, known | {"b.png": "3"}) != said
