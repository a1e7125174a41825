"""Text that shows nothing is no text, in every field that people fill in; found by walking the models."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from compute.schemas.quickstart.training import QuickstartTrainingCreate
from compute.schemas.quickstart.workflows import QuickstartCreateWorkflow
from compute.schemas.rules.text import shows
from compute.schemas.training import TrainingTaskCreate
from compute.schemas.workflows import CreateWorkflow, WorkflowUpdate
from compute.tasks.registry import all_kinds, kind_of

INVISIBLE = [
    "\u200b",
    "\u200b \u2060",
    "\ufeff",
    "\u00ad",
    "\u2800",
    "\u3164",
    "\u115f",
    "\u202e",
    "\ufe0f",
    "\u0301",
    "\x00",
]
VISIBLE = ["a", "赤", "é", "e\u0301", "🙂", "👨\u200d👩\u200d👧", "क्ष", "?", "1", "\u200ba", "\ue000"]
NAMED = ("prompt", "trigger_word", "name", "prompts", "caption")

_OF_MACHINES = frozenset({"queue_name", "origin_name"})


def models() -> Iterator[type[BaseModel]]:
    yield from (kind.create_model for kind in all_kinds().values())
    yield from (TrainingTaskCreate, QuickstartTrainingCreate, CreateWorkflow, QuickstartCreateWorkflow, WorkflowUpdate)


def text_fields(model: type[BaseModel], seen: set[type]) -> Iterator[tuple[str, Any]]:
    """The fields of a model and of those within it that hold a person's words."""
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        if name.endswith(NAMED) and name not in _OF_MACHINES:
            yield f"{model.__name__}.{name}", (model, name)
        for inner in _models_in(field.annotation):
            yield from text_fields(inner, seen)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


FIELDS = dict(found for model in models() for found in text_fields(model, set()))


def fault(model: type[BaseModel], name: str, value: object) -> str | None:
    """The kind of the fault that the field alone is to blame for."""
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        return next((one["type"] for one in error.errors() if one["loc"][0] == name), None)
    return None


def test_the_walk_finds_the_fields() -> None:
    assert {"CreateGenerationTask.prompt", "TrainingTaskCreate.trigger_word", "CreateWorkflow.name"} <= FIELDS.keys()
    assert len(FIELDS) > 12


@pytest.mark.parametrize("place", sorted(FIELDS))
@pytest.mark.parametrize("text", INVISIBLE)
def test_what_nobody_sees_is_refused_in_every_field(place: str, text: str) -> None:
    model, name = FIELDS[place]
    assert fault(model, name, [text] if name.endswith("s") else text) is not None


@pytest.mark.parametrize("place", sorted(place for place in FIELDS if not place.endswith(".output_name")))
@pytest.mark.parametrize("text", VISIBLE)
def test_what_is_seen_is_taken_in_every_field(place: str, text: str) -> None:
    model, name = FIELDS[place]
    assert fault(model, name, [text] if name.endswith("s") else text) is None


@pytest.mark.parametrize("text", INVISIBLE)
def test_invisible(text: str) -> None:
    assert not shows(text)


@pytest.mark.parametrize("text", VISIBLE)
def test_visible(text: str) -> None:
    assert shows(text)


def test_a_blank_may_stand_where_nothing_is_needed() -> None:
    editing = kind_of("EDITING").create_model
    assert fault(editing, "prompt", "") is None
    assert fault(editing, "prompt", " ") is None
