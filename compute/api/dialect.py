"""A task has two spellings of its id; so have workflows and trainings. It chooses the dialect of the answer.

9f1c…-…-…                         canonical: a UUID, upper-case statuses, progress from 0 to 100
task_9f1c…, wf_9f1c…, train_9f1c… quick start: the same 32 hex digits, lower-case statuses, progress from 0 to 1
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path

from compute.errors import BadRequest

__all__ = [
    "Dialect",
    "TaskId",
    "TaskRef",
    "TrainingId",
    "TrainingRef",
    "WorkflowId",
    "WorkflowRef",
    "as_spelled",
    "parsed_uuid",
    "quickstart_id",
    "quickstart_training_id",
    "quickstart_workflow_id",
]


class Dialect(Enum):
    CANONICAL = "canonical"
    QUICKSTART = "quickstart"


@dataclass(frozen=True, slots=True)
class TaskRef:
    """A task as a path names it."""

    id: UUID
    dialect: Dialect


@dataclass(frozen=True, slots=True)
class WorkflowRef:
    """A workflow as a path names it."""

    id: UUID
    dialect: Dialect


@dataclass(frozen=True, slots=True)
class TrainingRef:
    """A training as a path names it."""

    id: UUID
    dialect: Dialect


_HEX = re.compile(r"[0-9a-f]{32}\Z")
_CANONICAL = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_QUICKSTART_WORDS = {"QUEUED": "pending", "EXECUTING": "running", "PREPROCESSING": "running", "TRAINING": "running"}
_STATUS = re.compile(rf"\b(?:PENDING|RUNNING|PAUSED|COMPLETED|FAILED|CANCELLED|{'|'.join(_QUICKSTART_WORDS)})\b")


def quickstart_id(task_id: UUID) -> str:
    return f"task_{task_id.hex}"


def quickstart_workflow_id(workflow_id: UUID) -> str:
    return f"wf_{workflow_id.hex}"


def quickstart_training_id(training_id: UUID) -> str:
    return f"train_{training_id.hex}"


def as_spelled(message: str, names: Iterable[object]) -> str:
    """A message about what a path names, in the spelling and the words in which the path does so."""
    for name in names:
        prefix, _, digits = str(name).partition("_")
        if prefix in ("task", "wf", "train") and _HEX.match(digits):
            message = message.replace(str(UUID(digits)), str(name))
            message = _with_quickstart_words(message)
        elif _CANONICAL.fullmatch(str(name)):
            message = message.replace(str(name).lower(), str(name))
    return message


def _with_quickstart_words(message: str) -> str:
    """The message with the quick start's words for statuses, but in what it quotes."""
    parts = message.split("`")
    parts[::2] = [_STATUS.sub(_quickstart_word, part) for part in parts[::2]]
    return "`".join(parts)


def _quickstart_word(found: re.Match[str]) -> str:
    return _QUICKSTART_WORDS.get(found[0], found[0].lower())


def parsed_uuid(text: str) -> UUID | None:
    """A UUID in its usual spelling; `UUID()` also reads braces and URNs."""
    try:
        parsed = UUID(text)
    except ValueError:
        return None
    return parsed if str(parsed) == text.lower() else None


def _read(text: str, prefix: str, name: str) -> tuple[UUID, Dialect]:
    if text.startswith(prefix) and _HEX.match(text, len(prefix)):
        return UUID(text.removeprefix(prefix)), Dialect.QUICKSTART
    if (parsed := parsed_uuid(text)) is None:
        raise BadRequest(f"Parameter `{name}` must be a UUID, or `{prefix}` and 32 hex digits in lower case.")
    return parsed, Dialect.CANONICAL


def _task(
    task_id: Annotated[
        str,
        Path(
            description="The task's UUID, or `task_` and its 32 hex digits; the spelling chooses the answer's dialect.",
            examples=["0b6f0a52-64c8-4a3c-9d0e-0c7a8a0f7f10"],
        ),
    ],
) -> TaskRef:
    return TaskRef(*_read(task_id, "task_", "task_id"))


def _workflow(
    workflow_id: Annotated[
        str,
        Path(
            description="The workflow's UUID, or `wf_` and its 32 hex digits; it chooses the answer's dialect.",
            examples=["0b6f0a52-64c8-4a3c-9d0e-0c7a8a0f7f10"],
        ),
    ],
) -> WorkflowRef:
    return WorkflowRef(*_read(workflow_id, "wf_", "workflow_id"))


def _training(
    task_id: Annotated[
        str,
        Path(
            description="The training's UUID, or `train_` and its 32 hex digits; it chooses the answer's dialect.",
            examples=["0b6f0a52-64c8-4a3c-9d0e-0c7a8a0f7f10"],
        ),
    ],
) -> TrainingRef:
    return TrainingRef(*_read(task_id, "train_", "task_id"))


TaskId = Annotated[TaskRef, Depends(_task)]
WorkflowId = Annotated[WorkflowRef, Depends(_workflow)]
TrainingId = Annotated[TrainingRef, Depends(_training)]
