"""Schemas as generators like them.

A default makes openapi-typescript demand a field of a request, and null is nobody's default: requests say their
defaults in words. An answer has all of its fields, always. Integers that mean something have names.
"""

import copy
from typing import Any

from compute.api.openapi.walk import REF, named, objects, references
from compute.api.paths import API
from compute.schemas.enums import TaskPriority

__all__ = ["tidy_schemas"]

_WITHOUT_DEFAULTS = {
    "TrainingTaskCreate": "TrainingRequest",
    "CreateWorkflow": "WorkflowRequest",
    "EvaluationRequest": "ImageEvaluation",
    "Body_upload_lora": "LoraUpload",
    "Body_admin_upload_lora": "AdminLoraUpload",
    "Body_save_image": "ImageUpload",
}
"""Models whose names and defaults the contract fixes, and what operations refer to instead: the same in words."""

_QUICKSTART = "QuickstartCreateTask"


def tidy_schemas(document: dict[str, Any]) -> None:
    """Put all schemas of a document in order."""
    schemas: dict[str, Any] = document["components"]["schemas"]
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    hooks = [hook["post"]["requestBody"] for hook in document["webhooks"].values()]
    _name_bodies(operations, schemas)
    _part_quickstart(document, schemas)
    for kept, other in _WITHOUT_DEFAULTS.items():
        if kept in schemas:
            schemas[other] = copy.deepcopy(schemas[kept]) | {"title": other}
    for operation in operations:
        _use_others(operation.get("requestBody"))
    asked = references([operation.get("requestBody") for operation in operations], schemas)
    answered = references([operation["responses"] for operation in operations], schemas) | references(hooks, schemas)
    answered |= references(named("TaskEvent"), schemas)
    for name, schema in schemas.items():
        schema.setdefault("title", name)
        if name in asked:
            _say_defaults(schema)
        elif name in answered and "properties" in schema:
            schema["required"] = list(schema["properties"])
    for item in objects(document):
        _tidy(item)
    schemas["TaskPriority"]["x-enum-varnames"] = [member.name for member in TaskPriority]


def _name_bodies(operations: list[dict[str, Any]], schemas: dict[str, Any]) -> None:
    """A body that stands in its operation becomes a schema with its title."""
    for operation in operations:
        for media in operation.get("requestBody", {}).get("content", {}).values():
            if "properties" in media["schema"]:
                name = media["schema"]["title"]
                schemas[name] = media["schema"]
                media["schema"] = named(name)


def _part_quickstart(document: dict[str, Any], schemas: dict[str, Any]) -> None:
    """A generation in the quick start has no `task_type`: that would make it a canonical one."""
    schema = copy.deepcopy(schemas["CreateGenerationTask"])
    schema["title"] = _QUICKSTART
    schema["description"] = "Generate images, the short way: every field of `CreateGenerationTask` but `task_type`."
    del schema["properties"]["task_type"]
    schemas[_QUICKSTART] = schema
    content = document["paths"][f"{API}/tasks/generation"]["post"]["requestBody"]["content"]["application/json"]
    content["schema"] = {"anyOf": [named(_QUICKSTART), named("CreateGenerationTask")]}


def _use_others(body: Any) -> None:
    for item in objects(body):
        name = str(item.get("$ref", "")).removeprefix(REF)
        if name in _WITHOUT_DEFAULTS:
            item["$ref"] = f"{REF}{_WITHOUT_DEFAULTS[name]}"


def _say_defaults(schema: dict[str, Any]) -> None:
    for field in schema.get("properties", {}).values():
        default = field.pop("default", None)
        if default in (None, [], {}) or "const" in field:
            continue
        text = field.get("description", "")
        field["description"] = f"{text} Default: {default}.".strip()


def _tidy(item: dict[str, Any]) -> None:
    if "default" in item and item["default"] is None:
        del item["default"]
    for field in item.get("properties", {}).values():
        # Generators make a type of every title; the field's own name says as much.
        if isinstance(field, dict) and isinstance(field.get("title"), str):
            del field["title"]
    if "in" in item and isinstance(item.get("schema"), dict):
        item["schema"].pop("title", None)
