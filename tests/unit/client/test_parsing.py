"""A newer server may say what this client does not know; nothing of it raises."""

import copy
import importlib
import pkgutil
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

import compute.schemas
from compute.client import Event, Task, UnexpectedAnswer, Workflow
from compute.client.common.parsing import lenient, read
from compute.client.common.reading import event_of
from compute.client.common.sse import Message
from compute.schemas.enums import TaskStatus
from compute.schemas.rules.strict import JsonBody
from compute.tasks.registry import all_kinds

ID = UUID("96bf1113-73aa-468e-9520-0f9788c67a91")
ODD: list[Any] = [None, True, -1, 2.5, "a word of tomorrow", [], [{"a": 1}], {}, {"b": [2]}]


def answers() -> list[type[BaseModel]]:
    """Every model of an answer, and of each type of task."""
    modules = pkgutil.walk_packages(compute.schemas.__path__, "compute.schemas.")
    values = [value for module in modules for value in vars(importlib.import_module(module.name)).values()]
    models = [value for value in values if isinstance(value, type) and issubclass(value, BaseModel)]
    found = {model.__name__: model for model in models if not issubclass(model, JsonBody)}
    return [*found.values(), *(kind.public_model for kind in all_kinds().values())]


@pytest.mark.parametrize("model", answers(), ids=lambda model: model.__name__)
def test_no_answer_of_tomorrow_raises(model: type[BaseModel]) -> None:
    seen = read(model, {"tomorrow": {"never": "seen"}})
    assert isinstance(seen, model)
    assert seen.tomorrow == {"never": "seen"}  # type: ignore[attr-defined]
    for name in model.model_fields:
        for odd in ODD:
            got = getattr(read(model, {name: copy.deepcopy(odd)}), name)
            if isinstance(odd, str):
                assert str(got) == odd or isinstance(got, bytes)


def test_a_word_that_is_known_is_one_of_the_enumeration_and_another_is_plain() -> None:
    known = read(Task, {"id": str(ID), "status": "COMPLETED", "task_type": "GENERATION"})
    assert (known.id, known.status, type(known.status)) == (ID, "COMPLETED", TaskStatus)
    new = read(Task, {"status": "DREAMING", "error_category": "BOREDOM", "priority": 9})
    assert (new.status, new.error_category, new.priority) == ("DREAMING", "BOREDOM", 9)
    assert not isinstance(new.status, Enum)
    assert (new.ended, new.paths, new.error) == (False, [], None)


def test_parts_of_an_answer_are_read_like_the_whole() -> None:
    steps = [{"step_id": "draw", "status": "DREAMING", "mood": "good"}, {"step_id": "save", "status": "PENDING"}]
    workflow = read(Workflow, {"id": str(ID), "status": "RUNNING", "steps": steps})
    assert [step.status for step in workflow.steps] == ["DREAMING", "PENDING"]
    assert workflow.steps[0].mood == "good"  # type: ignore[attr-defined]


def test_a_model_is_made_lenient_once() -> None:
    assert lenient(Task) is lenient(Task)


@pytest.mark.parametrize("body", [None, [], "text", 7])
def test_what_is_no_object_is_no_answer_of_this_api(body: object) -> None:
    with pytest.raises(UnexpectedAnswer):
        read(Task, body)


def test_an_event_of_tomorrow_is_an_event() -> None:
    assert event_of(Message("mood", '{"status": 7, "progress": "half"}', "x")) == Event(
        "mood", {"status": 7, "progress": "half"}, "x"
    )
    odd = event_of(Message("completed", "[1, 2]", None))
    assert (odd.data, odd.task, odd.status, odd.progress, odd.text, odd.offset) == ({}, None, None, None, "", 0)
    ended = event_of(Message("failed", '{"task_type": "DREAM", "status": "FAILED"}', None))
    assert ended.task is not None
    assert ended.task.task_type == "DREAM"


def test_every_result_of_every_type_is_an_attribute() -> None:
    results = {name for kind in all_kinds().values() for name in kind.public_model.model_fields if "result_" in name}
    assert results <= Task.model_fields.keys()
