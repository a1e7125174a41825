"""Request bodies that are read by hand, documented as if FastAPI had read them.

The unions follow from the registry: a new task type appears in the document by being there.
"""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from compute.providers.registry import all_providers
from compute.schemas.admin.keys import ApiKeyCreate, ApiKeyRotate, ApiKeyUpdate, Limits
from compute.schemas.bulk import BulkTasks
from compute.schemas.calls import SettleCall
from compute.schemas.enums import ErrorCategory, EventType, ProviderCapability, ProviderType, TaskPriority, TaskType
from compute.schemas.evaluation import EvaluationRequest
from compute.schemas.events import (
    BaseEvent,
    PreprocessingStatusEvent,
    TaskCreatedEvent,
    TaskStatusEvent,
    TrainingStatusEvent,
    WorkflowStatusEvent,
)
from compute.schemas.lora import Body_admin_upload_lora, Body_upload_lora, EntityType, LoRADeleteRequest
from compute.schemas.quickstart.tasks import QuickstartTask
from compute.schemas.quickstart.training import QuickstartTrainingCreate
from compute.schemas.quickstart.workflows import QuickstartCreateWorkflow
from compute.schemas.storage import Body_save_image
from compute.schemas.training import TrainingTaskCreate
from compute.schemas.workflows import CreateWorkflow, StartWorkflow, WorkflowUpdate
from compute.tasks.registry import all_kinds
from compute.tasks.types.generation import GenerationTaskUpdate

__all__ = [
    "BULK_BODY",
    "EVALUATION_BODY",
    "GENERATION_BODY",
    "GENERATION_UPDATE_BODY",
    "KEY_BODY",
    "KEY_UPDATE_BODY",
    "LIMITS_BODY",
    "LORA_DELETE_BODY",
    "ROTATE_BODY",
    "SETTLE_BODY",
    "START_BODY",
    "TASK_BODY",
    "TASK_UPDATE_BODY",
    "TRAINING_BODY",
    "WORKFLOW_BODY",
    "WORKFLOW_UPDATE_BODY",
    "AnyTask",
    "AnyTaskPublic",
    "document",
    "form_body",
]

_REF = "#/components/schemas/{model}"
_KINDS = tuple(all_kinds().values())

AnyTaskPublic: Any = reduce(or_, (kind.public_model for kind in _KINDS))
AnyTask: Any = AnyTaskPublic | QuickstartTask


def _any_of(title: str, models: Sequence[type[BaseModel]]) -> dict[str, Any]:
    refs = [{"$ref": _REF.format(model=model.__name__)} for model in models]
    return {"anyOf": refs, "title": title} if len(refs) > 1 else refs[0]


def form_body(model: str) -> dict[str, Any]:
    """A multipart form that is read by hand."""
    schema = {"$ref": _REF.format(model=model)}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def _json_body(schema: dict[str, Any], examples: dict[str, Any]) -> dict[str, Any]:
    content = {"schema": schema, "examples": {name: {"value": value} for name, value in examples.items()}}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


_CREATE = [kind.create_model for kind in _KINDS]
_UPDATE = [kind.update_model for kind in _KINDS]
_GENERATION = all_kinds()[TaskType.GENERATION]

_CANONICAL_EXAMPLE = {
    "task_type": "GENERATION",
    "prompt": "A red dress on a white background, studio light",
    "width": 1024,
    "height": 1536,
    "seed": 42,
    "priority": 2,
    "style_model_path": "styles/editorial.safetensors",
    "style_lora_weight": 0.8,
    "origin_instance": "shop",
}
_QUICKSTART_EXAMPLE = {
    "prompt": "fashion model wearing the dress, studio lighting",
    "input_image_url": "https://example.com/dress.jpg",
    "reference_image_strength": 0.3,
    "num_outputs": 4,
    "steps": 30,
}
_BULK_QUICKSTART = {"type": "generation", "prompt": "the same dress in blue", "num_outputs": 2}


def _bulk_schema() -> dict[str, Any]:
    """`BulkTasks`, with the elements that the registry knows."""
    schema = BulkTasks.model_json_schema()
    schema["properties"]["tasks"]["items"] = _any_of("Task Data", _CREATE)
    return schema


TASK_BODY = _json_body(_any_of("Task Data", _CREATE), {"canonical": _CANONICAL_EXAMPLE})
BULK_BODY = _json_body(_bulk_schema(), {"one of each dialect": {"tasks": [_CANONICAL_EXAMPLE, _BULK_QUICKSTART]}})
TASK_UPDATE_BODY = _json_body(
    _any_of("Update Data", _UPDATE), {"urgent": {"priority": 3}, "cancel": {"status": "CANCELLED"}}
)
GENERATION_BODY = _json_body(
    _any_of("Generation Data", [_GENERATION.create_model]),
    {"quick start": _QUICKSTART_EXAMPLE, "canonical": _CANONICAL_EXAMPLE},
)
GENERATION_UPDATE_BODY = _json_body(
    _any_of("Generation Update", [GenerationTaskUpdate]), {"weaker LoRA": {"style_lora_weight": 0.4}}
)

LORA_DELETE_BODY = _json_body(
    _any_of("LoRA", [LoRADeleteRequest]), {"by its path": {"partial_path": "identities/my_lora.safetensors"}}
)

SETTLE_BODY = _json_body(
    _any_of("Settle Call", [SettleCall]),
    {
        "found": {"action": "collect", "vendor_id": "1d6c4f5a-5f5e-4b4b-8f0a-2f6f0d7e9c11"},
        "lost": {"action": "give_up"},
    },
)

_LIMITS_EXAMPLE = {"requests_per_minute": 600, "concurrent_tasks": 50, "tasks_per_day": 10_000}
KEY_BODY = _json_body(
    _any_of("Key", [ApiKeyCreate]),
    {"of a team": {"name": "Shop", "scope": "submit", "tenant": "shop", "limits": _LIMITS_EXAMPLE}},
)
KEY_UPDATE_BODY = _json_body(_any_of("Key Update", [ApiKeyUpdate]), {"read only": {"scope": "read"}})
ROTATE_BODY = _json_body(_any_of("Rotation", [ApiKeyRotate]), {"an hour of both": {"grace_seconds": 3600}})
ROTATE_BODY["requestBody"]["required"] = False
LIMITS_BODY = _json_body(_any_of("Limits", [Limits]), {"of a tenant": _LIMITS_EXAMPLE})

_EVALUATION_EXAMPLE = {
    "image_url": "https://example.com/look-1.jpg",
    "expected_framing": "full_body",
    "expected_view_angle": "front",
    "expected_gender": "FEMALE",
    "include_descriptions": True,
}
EVALUATION_BODY = _json_body(_any_of("Evaluation", [EvaluationRequest]), {"a look": _EVALUATION_EXAMPLE})

_WORKFLOW_EXAMPLE = {
    "name": "A dress, larger",
    "origin_instance": "shop",
    "steps": [
        {"id": "draw", "task_type": "GENERATION", "config": {"prompt": "a red dress on a mannequin", "num_outputs": 4}},
        {
            "id": "enlarge",
            "task_type": "REFINE",
            "config": {"upscale_factor": 2},
            "input_mappings": [{"from_step": "draw", "from_field": "result_image_paths", "to_field": "base_image_url"}],
        },
    ],
}
_QUICKSTART_WORKFLOW_EXAMPLE = {
    "name": "dress-to-catalogue",
    "steps": [
        {"name": "draw", "type": "generation", "config": {"prompt": "a model wears the dress", "num_outputs": 2}},
        {
            "name": "cut-out",
            "type": "processing",
            "config": {"operation": "remove-background"},
            "depends_on": ["draw"],
        },
    ],
}
WORKFLOW_BODY = _json_body(
    _any_of("Workflow Data", [CreateWorkflow, QuickstartCreateWorkflow]),
    {"canonical": _WORKFLOW_EXAMPLE, "quick start": _QUICKSTART_WORKFLOW_EXAMPLE},
)
WORKFLOW_UPDATE_BODY = _json_body(_any_of("Workflow Update", [WorkflowUpdate]), {"rename": {"name": "Spring"}})
START_BODY = _json_body(
    _any_of("Workflow Start", [StartWorkflow]), {"with an image": {"input": {"image_url": "https://example.com/a.jpg"}}}
)
START_BODY["requestBody"]["required"] = False

_TRAINING_EXAMPLE = {
    "trigger_word": "zxdress",
    "source_images": ["https://example.com/dress-1.jpg", "https://example.com/dress-2.jpg"],
    "entity_type": "PRODUCT",
    "rank": 16,
    "steps": 1000,
    "sample_prompts": ["zxdress on a mannequin"],
    "preprocessing_transforms": [{"type": "background_removal"}],
    "origin_instance": "shop",
}
_QUICKSTART_TRAINING_EXAMPLE = {
    "dataset_url": "https://example.com/datasets/dress.zip",
    "base_model": "default",
    "output_name": "dress-v1",
    "config": {"epochs": 100, "learning_rate": 1e-4, "batch_size": 1},
}
TRAINING_BODY = _json_body(
    _any_of("Training Data", [TrainingTaskCreate, QuickstartTrainingCreate]),
    {"canonical": _TRAINING_EXAMPLE, "quick start": _QUICKSTART_TRAINING_EXAMPLE},
)

_BY_HAND: list[type[BaseModel]] = [
    *_CREATE,
    *_UPDATE,
    GenerationTaskUpdate,
    Body_upload_lora,
    Body_admin_upload_lora,
    Body_save_image,
    LoRADeleteRequest,
    EvaluationRequest,
    SettleCall,
    ApiKeyCreate,
    ApiKeyUpdate,
    ApiKeyRotate,
    *(provider.config_model for provider in all_providers().values()),
    BaseEvent,
    TaskCreatedEvent,
    TaskStatusEvent,
    WorkflowStatusEvent,
    TrainingStatusEvent,
    PreprocessingStatusEvent,
    TrainingTaskCreate,
    QuickstartTrainingCreate,
    CreateWorkflow,
    QuickstartCreateWorkflow,
    StartWorkflow,
    WorkflowUpdate,
]
_ENUMS = (TaskType, TaskPriority, ProviderType, ProviderCapability, EntityType, ErrorCategory, EventType)


def document(app: FastAPI) -> dict[str, Any]:
    """The framework's document of the routes, with the models that only hand-read bodies and webhooks use."""
    made: dict[str, Any] = get_openapi(
        title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
    )
    _, definitions = models_json_schema([(model, "validation") for model in _BY_HAND], ref_template=_REF)
    schemas: dict[str, Any] = made["components"]["schemas"]
    for name, schema in definitions["$defs"].items():
        schemas.setdefault(name, schema)
    for enum in _ENUMS:
        kind = "integer" if enum is TaskPriority else "string"
        schema = {"type": kind, "enum": [member.value for member in enum], "title": enum.__name__}
        schemas.setdefault(enum.__name__, schema | {"description": enum.__doc__})
    return made
