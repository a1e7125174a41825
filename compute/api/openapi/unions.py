"""Unions under names of their own; with a discriminator where their members have a field that tells them apart."""

import copy
from typing import Any

from compute.api.openapi.walk import REF, named, objects
from compute.providers.registry import all_providers
from compute.schemas.enums import TaskType
from compute.tasks.registry import all_kinds

__all__ = ["name_unions"]

_KINDS = all_kinds()
_PUBLIC = {kind.name.value: kind.public_model.__name__ for kind in _KINDS.values()}
_CREATE = {kind.name.value: kind.create_model.__name__ for kind in _KINDS.values()}
_UPDATE = [kind.update_model.__name__ for kind in _KINDS.values()]
_GENERATION = _KINDS[TaskType.GENERATION]


_CONFIGS = {name.value: provider.config_model.__name__ for name, provider in all_providers().items()}


def _by(told_by: str, members: dict[str, str], description: str) -> dict[str, Any]:
    mapping = {value: f"{REF}{model}" for value, model in members.items()}
    discriminator = {"propertyName": told_by, "mapping": mapping}
    return {"oneOf": [named(model) for model in members.values()], "discriminator": discriminator} | {
        "description": description
    }


def _either(description: str, *models: str) -> dict[str, Any]:
    return {"anyOf": [named(model) for model in models], "description": description}


_DIALECT = "in the dialect that the id's spelling chooses"
_UNIONS: dict[str, dict[str, Any]] = {
    "CanonicalTask": _by("task_type", _PUBLIC, "A task of any type in the canonical dialect."),
    "CreateTask": _by("task_type", _CREATE, "What a client sends to have something done."),
    "ProviderConfig": _by(
        "provider_type", _CONFIGS, "What `provider_config` may say: settings of the provider that executes the task."
    ),
    "Task": _either(f"A task, {_DIALECT}.", "CanonicalTask", "QuickstartTask"),
    "GenerationTask": _either(f"A generation task, {_DIALECT}.", "GenerationTaskPublic", "QuickstartTask"),
    "UpdateTask": _either("What may be changed depends on the task's type.", *_UPDATE),
    "Workflow": _either(f"A workflow, {_DIALECT}.", "WorkflowPublic", "QuickstartWorkflow"),
    "CleanedTask": _either(f"A task without its files, {_DIALECT}.", "TaskCleanup", "QuickstartTaskCleanup"),
    "CleanedWorkflow": _either(
        f"A workflow without its files, {_DIALECT}.", "WorkflowCleanupResponse", "QuickstartWorkflowCleanup"
    ),
    "TrainingEvents": _either(
        f"What happened to a training, {_DIALECT}.", "TrainingEventList", "QuickstartTrainingEventList"
    ),
    "MonitoredTask": _either(
        f"A task with all that is known of it, {_DIALECT}.", "TaskDetailResponse", "QuickstartTaskDetail"
    ),
    "TaskMedia": _either(f"The images and clips of a task, {_DIALECT}.", "TaskMediaResponse", "QuickstartTaskMedia"),
    "MonitoredWorkflow": _either(
        f"A workflow with its steps, {_DIALECT}.", "WorkflowDetailResponse", "QuickstartWorkflowDetail"
    ),
    "Training": _either(f"A training, {_DIALECT}.", "TrainingTask", "QuickstartTraining"),
}


def name_unions(document: dict[str, Any]) -> None:
    """Replace every union that stands in an operation by a reference to the one that has its members."""
    by_members = {_members(union): name for name, union in _UNIONS.items()}
    by_members[frozenset(_PUBLIC.values()) | {"QuickstartTask"}] = "Task"
    for item in list(objects(document["paths"])):
        name = by_members.get(_members(item))
        if name is not None:
            item.clear()
            item.update(named(name))
    document["components"]["schemas"] |= copy.deepcopy(_UNIONS)


def _members(schema: dict[str, Any]) -> frozenset[str]:
    members = schema.get("anyOf") or schema.get("oneOf") or []
    return frozenset(str(member.get("$ref", "")).removeprefix(REF) for member in members if isinstance(member, dict))
