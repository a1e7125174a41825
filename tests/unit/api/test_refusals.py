"""Refusals name what the caller wrote and speak no Python, for every field of everything that can be sent."""

import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from compute.api.bounded import bounded_faults
from compute.api.dialect import as_spelled, quickstart_workflow_id
from compute.api.errors import answer_to
from compute.api.openapi import request_bodies as documentation
from compute.errors import InvalidFields, InvalidInput
from compute.requests.faults import faults_at
from compute.requests.validate import validate
from compute.schemas.bulk import BulkTasks
from compute.schemas.rules.sentences import names_of_field
from compute.schemas.rules.strict import JsonBody

WRONG: tuple[Any, ...] = (
    None, True, 1, -1, 10**30, 1.5, 128.0, 1e300, "", " ", "128", "x" * 5000, [], [[]], [1, "x", None, {}], {},
    {"a": 1},
    [{"type": "x"}], {"type": 5}, "\n", [True] * 6000,
)  # fmt: skip
PYTHON = re.compile(
    r"<|class|Enum|Python|\bdict|NoneType|\binstance|\bInput\b|tuple|\bfloat\b|\bint\b"
    r"|\bstr\b|UploadFile|pydantic|Error|constrained|function-|lax-or|\bTrue\b|\bFalse\b|\bNone\b|'"
)


def models(of: type[BaseModel] = JsonBody) -> Iterator[type[BaseModel]]:
    """Everything that can be sent as JSON."""
    for model in of.__subclasses__():
        if model.__module__.startswith("compute."):
            yield model
        yield from models(model)


MODELS = sorted({model.__name__: model for model in models()}.items())


def faults_of(model: type[BaseModel], body: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        validate(model, body)
    except InvalidFields as error:
        return error.faults
    return []


def test_every_documented_body_is_walked() -> None:
    documented = {model for model in documentation._BY_HAND if model.__name__.startswith(("Create", "Start"))}
    assert documented <= {model for _, model in MODELS}
    assert len(MODELS) >= 25


@pytest.mark.parametrize("name", [name for name, _ in MODELS])
def test_every_field_is_refused_in_our_own_words(name: str) -> None:
    model = dict(MODELS)[name]
    for field in model.model_fields:
        for written in names_of_field(model, field):
            for value in WRONG:
                for fault in faults_of(model, {written: value}):
                    assert fault["loc"][0] == "body"
                    assert PYTHON.search(fault["msg"]) is None, fault
                    assert re.match(r"[A-Z].*[.?]\Z", fault["msg"]), fault
                    assert "has a form that is not accepted here" not in fault["msg"], fault
                    if fault["type"] != "missing":
                        assert_is_there(fault["loc"][1:], {written: value})


def assert_is_there(place: tuple[Any, ...], body: Any) -> None:
    for part in place:
        assert part in body if isinstance(body, dict) else part < len(body)
        body = body[part]


def fields_of_kind(model: type[BaseModel], kinds: set[str]) -> Iterator[str]:
    """The fields whose schema knows no other type than these, but for null."""
    schema = model.model_json_schema(by_alias=False)
    definitions = schema.get("$defs", {})
    for field, part in schema.get("properties", {}).items():
        branches = [definitions[one["$ref"].rpartition("/")[2]] if "$ref" in one else one
                    for one in part.get("anyOf", [part])]  # fmt: skip
        if {one.get("type") for one in branches} - {"null"} <= kinds and branches != []:
            yield field


def test_numbers_and_booleans_have_the_type_of_the_schema() -> None:
    walked = 0
    for _, model in MODELS:
        for kinds, refused in (
            ({"integer"}, (128.0, 1.0, "1", "128", True, False)),
            ({"number"}, ("1", "0.5", True, False)),
            ({"boolean"}, (1, 0, "true", "false", 1.0)),
            ({"string"}, (1, 1.5, True)),
        ):
            for field in fields_of_kind(model, kinds):
                for value in refused:
                    walked += 1
                    named = [fault["loc"][1:] for fault in faults_of(model, {field: value})]
                    assert (field,) in named, (model.__name__, field, value)
    assert walked > 1000


def test_a_misspelt_field_is_told_what_was_meant() -> None:
    model = dict(MODELS)["CreateGenerationTask"]
    (fault,) = faults_of(model, {"prompt": "x", "widht": 64})
    assert fault["msg"] == "Field `widht` is unknown here; did you mean `width`?"


def test_a_fault_of_a_whole_body_names_no_field() -> None:
    error = InvalidInput("Send a JSON object.")
    assert json.loads(bytes(answer_to(error).body))["detail"][0]["loc"] == ["body"]
    with pytest.raises(InvalidFields) as refused, faults_at("tasks", 3):
        raise error
    assert refused.value.faults[0]["loc"] == ("body", "tasks", 3)


def test_a_list_without_elements_is_called_empty() -> None:
    (fault,) = faults_of(BulkTasks, {"tasks": []})
    assert fault["msg"] == "Field `tasks` must not be empty."


@pytest.mark.parametrize(
    "faults",
    [
        [{"loc": ("body", "k" * 10**6), "msg": "x" * 10**6, "type": "x"}] * 1000,
        [{"loc": ("body", *range(10_000)), "msg": "\ud800" * 100, "type": "x"}],
        [{"loc": ("body", "\U0001f600" * 10_000), "msg": "\U0001f600" * 10_000, "type": "x"}] * 150,
    ],
)
def test_an_answer_about_faults_does_not_grow_with_them(faults: list[dict[str, Any]]) -> None:
    shown = bounded_faults(faults)
    assert len(json.dumps(shown).encode()) < 20_000
    assert len(shown) <= 101
    if len(faults) > 1:
        assert f"{len(faults) - len(shown) + 1} more" in shown[-1]["msg"]


def test_a_message_is_in_the_words_of_its_path_but_for_what_it_quotes() -> None:
    workflow = UUID("0b6f0a52-64c8-4a3c-9d0e-0c7a8a0f7f10")
    said = f"Step `FAILED` of workflow {workflow} is FAILED."
    quickstart = quickstart_workflow_id(workflow)
    assert as_spelled(said, [quickstart]) == f"Step `FAILED` of workflow {quickstart} is failed."
    assert as_spelled(said, [workflow]) == said
