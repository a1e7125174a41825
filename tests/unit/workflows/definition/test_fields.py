"""Fields of task types and of their results, and those that fit each other."""

from typing import Any

import pytest

from compute.schemas.enums import TransformType
from compute.tasks.registry import TaskKind, all_kinds, kind_of
from compute.workflows.definition.fields import (
    ANYTHING,
    TEXT,
    Shape,
    list_of,
    names_of,
    required_fields,
    shape_of_value,
    source_shapes,
    target_shapes,
    transformed,
)

NUMBER, OBJECT, BOOLEAN = (Shape(frozenset({kind})) for kind in ("number", "object", "boolean"))
TEXTS, OBJECTS = list_of(TEXT), list_of(OBJECT)
TEXT_OR_LIST = Shape(frozenset({"string", "array"}), TEXT)

each_kind = pytest.mark.parametrize("kind", all_kinds().values(), ids=all_kinds())


# --- every registered type -------------------------------------------------------------------------------------------


@each_kind
def test_the_image_of_every_type_is_one_text_or_a_list_of_texts(kind: TaskKind[Any]) -> None:
    assert all(target_shapes(kind)[field] in (TEXT, TEXTS) for field in kind.image_fields[:1])


@each_kind
def test_results_of_every_type_have_outputs_and_metadata_and_a_path_with_its_link(kind: TaskKind[Any]) -> None:
    shapes = source_shapes(kind)
    assert shapes["outputs"] == OBJECTS
    assert shapes["metadata"] == ANYTHING
    results = {name for name in shapes if name.startswith("result_")}
    assert results
    assert {name.replace("_path", "_url") for name in results} <= results
    assert all(shapes[name] == (TEXTS if name.endswith("s") else TEXT) for name in results)


@each_kind
def test_results_of_every_type_leave_out_what_all_tasks_have(kind: TaskKind[Any]) -> None:
    assert not source_shapes(kind).keys() & {"id", "status", "task_type", "created_at", "origin_instance", "errors"}


@each_kind
def test_no_field_of_a_type_is_without_a_shape(kind: TaskKind[Any]) -> None:
    """A field for which anything were right would take nothing to be dealt to its tasks."""
    assert ANYTHING not in target_shapes(kind).values()


@each_kind
def test_a_field_is_known_by_every_name_that_a_request_may_use(kind: TaskKind[Any]) -> None:
    for field in kind.create_model.model_fields:
        names = names_of(kind, field)
        assert field in names
        assert len({target_shapes(kind)[name] for name in names}) == 1


@each_kind
def test_required_fields_come_with_all_their_names(kind: TaskKind[Any]) -> None:
    required = [names for names in required_fields(kind) if names]
    assert all(names <= target_shapes(kind).keys() for names in required)
    needed = {field for field, info in kind.create_model.model_fields.items() if info.is_required()}
    assert len(required) == len(needed)


def test_examples_of_fields_with_two_names() -> None:
    refine, removal = kind_of("REFINE"), kind_of("BACKGROUND_REMOVAL")
    assert names_of(refine, "base_image") == names_of(refine, "base_image_url") == {"base_image", "base_image_url"}
    assert required_fields(refine) == [{"base_image", "base_image_url"}]
    assert target_shapes(removal)["image_url"] == target_shapes(removal)["input_image_paths"] == TEXTS
    assert required_fields(kind_of("GENERATION")) == [{"prompt"}]


@pytest.mark.parametrize(
    ("task_type", "field", "shape"),
    [
        ("GENERATION", "prompt", TEXT),
        ("GENERATION", "seed", NUMBER),
        ("GENERATION", "guidance_scale", NUMBER),
        ("GENERATION", "provider_config", OBJECT),
        ("GENERATION", "provider_type", TEXT),
        ("GENERATION", "active_provider_capabilities", TEXTS),
        ("REFINE", "upscale_enabled", BOOLEAN),
        ("IMAGE_ADJUSTER", "mode", TEXT),
        ("EDITING", "reference_images", list_of(Shape(frozenset({"string", "object"})))),
    ],
)
def test_examples_of_shapes(task_type: str, field: str, shape: Shape) -> None:
    assert target_shapes(kind_of(task_type))[field] == shape


# --- what fits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        (TEXT, TEXT),
        (TEXT, TEXT_OR_LIST),
        (TEXT_OR_LIST, TEXTS),
        (TEXTS, TEXTS),
        (TEXTS, list_of(ANYTHING)),
        (TEXTS, Shape(frozenset({"array"}))),
        (Shape(frozenset({"array"})), OBJECTS),
        (list_of(Shape(frozenset({"string", "object"}))), TEXTS),
        (ANYTHING, NUMBER),
        (NUMBER, ANYTHING),
    ],
)
def test_a_field_takes_what_may_be_of_its_kind(expected: Shape, given: Shape) -> None:
    assert expected.accepts(given)


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        (TEXT, NUMBER),
        (NUMBER, TEXT),
        (NUMBER, BOOLEAN),
        (TEXT, TEXTS),
        (TEXTS, TEXT),
        (TEXTS, OBJECTS),
        (TEXTS, list_of(TEXTS)),
        (TEXT_OR_LIST, OBJECTS),
    ],
)
def test_a_field_takes_nothing_that_is_never_of_its_kind(expected: Shape, given: Shape) -> None:
    assert not expected.accepts(given)


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ("a", TEXT),
        (7, NUMBER),
        (0.5, NUMBER),
        (True, BOOLEAN),
        ({"a": 1}, OBJECT),
        (None, ANYTHING),
        ([], list_of(ANYTHING)),
        (["a", "b"], TEXTS),
        (["a", 7], list_of(Shape(frozenset({"string", "number"})))),
        (["a", None], list_of(ANYTHING)),
        ([["a"], ["b"]], list_of(Shape(frozenset({"array"})))),
    ],
)
def test_a_value_shows_its_shape(value: Any, shape: Shape) -> None:
    assert shape_of_value(value) == shape


# --- transforms ------------------------------------------------------------------------------------------------------

X = None
"""It cannot be applied."""

SHAPES = (TEXT, NUMBER, OBJECT, TEXTS, OBJECTS, ANYTHING)

TABLE = {
    None: SHAPES,
    TransformType.FIRST: (X, X, X, TEXT, OBJECT, ANYTHING),
    TransformType.LAST: (X, X, X, TEXT, OBJECT, ANYTHING),
    TransformType.INDEX: (X, X, X, TEXT, OBJECT, ANYTHING),
    TransformType.LIST: (TEXTS, list_of(NUMBER), OBJECTS, TEXTS, OBJECTS, list_of(ANYTHING)),
    TransformType.URL: (TEXT, X, X, TEXTS, X, TEXT),
    TransformType.BASE64: (TEXT, X, X, TEXTS, X, TEXT),
    TransformType.STRING: (TEXT, TEXT, TEXT, TEXTS, TEXTS, TEXT),
    TransformType.JSON: (TEXT,) * len(SHAPES),
}


@pytest.mark.parametrize("transform", TABLE)
def test_what_a_transform_makes_of_each_shape(transform: TransformType | None) -> None:
    assert tuple(transformed(shape, transform) for shape in SHAPES) == TABLE[transform]


def test_the_table_has_every_transform() -> None:
    assert TABLE.keys() == {None, *TransformType}


def test_shapes_are_told_in_words() -> None:
    assert str(TEXT) == "string"
    assert str(OBJECTS) == "a list of object"
    assert str(list_of(TEXTS)) == "a list of a list of string"
    assert str(Shape(frozenset({"array"}))) == "a list of anything"
    assert str(Shape(frozenset({"string", "number"}))) == "number or string"
