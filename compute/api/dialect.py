"""One task has two spellings of its id, and the spelling chooses the dialect of the answer.

9f1c…-…-…            canonical: a UUID, upper-case statuses, progress from 0 to 100
task_9f1c…           quick start: the same 32 hex digits, lower-case statuses, progress from 0 to 1
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path

from compute.errors import BadRequest

__all__ = ["Dialect", "TaskId", "TaskRef", "quickstart_id"]


class Dialect(Enum):
    CANONICAL = "canonical"
    QUICKSTART = "quickstart"


@dataclass(frozen=True, slots=True)
class TaskRef:
    """A task as a path names it."""

    id: UUID
    dialect: Dialect


_QUICKSTART = re.compile(r"task_([0-9a-f]{32})\Z")


def quickstart_id(task_id: UUID) -> str:
    return f"task_{task_id.hex}"


def _parse(
    task_id: Annotated[
        str,
        Path(
            description="The task's UUID, or `task_` and its 32 hex digits; the spelling chooses the answer's dialect.",
            examples=["0b6f0a52-64c8-4a3c-9d0e-0c7a8a0f7f10"],
        ),
    ],
) -> TaskRef:
    if match := _QUICKSTART.match(task_id):
        return TaskRef(UUID(match[1]), Dialect.QUICKSTART)
    try:
        # UUID() also reads braces and URNs; only the usual spelling is one of ours.
        parsed = UUID(task_id)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != task_id.lower():
        raise BadRequest("task_id: neither a UUID nor task_ and 32 hex digits.")
    return TaskRef(parsed, Dialect.CANONICAL)


TaskId = Annotated[TaskRef, Depends(_parse)]
