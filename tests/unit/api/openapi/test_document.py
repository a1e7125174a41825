"""The document is valid, and shaped as generators of clients like it."""

from typing import Any

import pytest
from openapi_spec_validator import validate

from compute.api.app import create_app
from compute.api.openapi.walk import objects
from compute.requests.serving import Serving
from compute.settings import Settings


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings(), Serving({})).openapi()


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for item in document["paths"].values() for operation in item.values()]


def test_it_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_operations_have_names_of_their_own_without_their_paths(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for operation in operations(document)]
    assert len(set(names)) == len(names)
    assert [name for name in names if "api_v1" in name or "__" in name or "_" not in name] == []


def test_tags_are_described(document: dict[str, Any]) -> None:
    described = {tag["name"] for tag in document["tags"]}
    assert {tag for operation in operations(document) for tag in operation["tags"]} <= described


def test_only_what_needs_a_key_says_so(document: dict[str, Any]) -> None:
    assert [operation["operationId"] for operation in operations(document) if not operation.get("security")] == [
        "get_health"
    ]


def test_null_is_nobodys_default(document: dict[str, Any]) -> None:
    assert [item for item in objects(document) if "default" in item and item["default"] is None] == []


def test_unions_stand_under_names_and_tasks_are_told_apart(document: dict[str, Any]) -> None:
    for operation in operations(document):
        for item in objects(operation["responses"]):
            assert not {"anyOf", "oneOf"} & item.keys(), operation["operationId"]
    schemas = document["components"]["schemas"]
    for name in ("CanonicalTask", "CreateTask"):
        mapping = schemas[name]["discriminator"]["mapping"]
        assert set(mapping.values()) == {member["$ref"] for member in schemas[name]["oneOf"]}


def test_no_enumeration_has_words_that_only_their_case_tells_apart(document: dict[str, Any]) -> None:
    """A generator that names its members after them would name two alike."""
    enumerations = [item["enum"] for item in objects(document) if isinstance(item.get("enum"), list)]
    assert len(enumerations) > 20
    assert [words for words in enumerations if len({str(word).upper() for word in words}) < len(words)] == []


def test_an_error_says_its_code(document: dict[str, Any]) -> None:
    for name in ("Problem", "HTTPValidationError"):
        assert "code" in document["components"]["schemas"][name]["required"]


def test_every_refusal_has_a_body_that_is_described(document: dict[str, Any]) -> None:
    for item in document["paths"].values():
        for method, operation in item.items():
            for status, answer in operation["responses"].items():
                if method != "head" and status.startswith(("4", "5")):
                    assert "schema" in answer["content"]["application/json"], operation["operationId"]


def test_webhooks_and_the_event_stream_have_schemas(document: dict[str, Any]) -> None:
    assert set(document["webhooks"]) == {"TaskStatus", "WorkflowStatus", "TrainingStatus"}
    stream = document["paths"]["/api/v1/tasks/{task_id}/events"]["get"]["responses"]["200"]["content"]
    assert stream["text/event-stream"]["schema"]["contentSchema"] == {"$ref": "#/components/schemas/TaskEvent"}
