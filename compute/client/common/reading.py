"""From answers to what the client returns. The schemas are imported when the first answer is read: they take longer to
load than everything else of the client."""

from typing import TYPE_CHECKING, Any

from compute.client.common.sse import Message
from compute.client.common.text import json_value
from compute.client.errors import EndedBadly, UnexpectedAnswer
from compute.client.events import Event

if TYPE_CHECKING:
    from compute.client.models import Task, Training, Workflow

__all__ = [
    "ENDED",
    "ENDS",
    "event_of",
    "id_in",
    "is_ended",
    "raise_if_bad",
    "reader",
    "task_of",
    "tasks_of",
    "training_of",
    "workflow_of",
]

ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
"""In which tasks, workflows and trainings end."""
ENDS = frozenset(word.lower() for word in ENDED)
"""The last events of streams."""


def task_of(body: Any) -> "Task":
    """A task of an answer."""
    from compute.client.common.parsing import read
    from compute.client.models import Task

    return read(Task, body)


def tasks_of(body: Any) -> "list[Task]":
    """The tasks of an answer that is a list."""
    if not isinstance(body, list):
        raise UnexpectedAnswer("the server does not answer as this API does")
    return [task_of(one) for one in body]


def workflow_of(body: Any) -> "Workflow":
    """A workflow of an answer."""
    from compute.client.common.parsing import read
    from compute.client.models import Workflow

    return read(Workflow, body)


def training_of(body: Any) -> "Training":
    """A training of an answer."""
    from compute.client.common.parsing import read
    from compute.client.models import Training

    return read(Training, body)


def reader(module: str, name: str) -> Any:
    """A function that reads answers by a schema, which is imported for the first of them."""

    def read_one(body: Any) -> Any:
        from importlib import import_module

        from compute.client.common.parsing import read

        return read(getattr(import_module(f"compute.schemas.{module}"), name), body)

    return read_one


def event_of(message: Message) -> Event:
    """An event of a message. What is no JSON object has no data."""
    try:
        data = json_value(message.data)
    except ValueError:
        data = {}
    data = data if isinstance(data, dict) else {}
    task = task_of(data) if message.event in ENDS and "task_type" in data else None
    return Event(message.event, data, message.id, task)


def id_in(body: Any) -> Any:
    """The id of what was made, in the answer that says so."""
    if not isinstance(body, dict) or body.get("id") is None:
        raise UnexpectedAnswer("the server does not answer as this API does")
    return body["id"]


def is_ended(thing: Any) -> bool:
    """Whether a task, workflow or training has ended."""
    return isinstance(thing.status, str) and thing.status in ENDED


def raise_if_bad(what: str, thing: Any) -> None:
    """Check that a task, workflow or training is COMPLETED.

    Raises:
        EndedBadly: it FAILED or was CANCELLED.
    """
    if thing.status == "COMPLETED":
        return
    category = getattr(thing, "error_category", None)
    said = f": {thing.error}" if thing.error else ""
    raise EndedBadly(f"{what} {thing.id} is {thing.status}{said}", thing, None if category is None else str(category))
