"""Reads from a body, before its fields are checked, the type of its task and the dialect of the answer."""

from dataclasses import dataclass
from typing import Any

from compute.api.dialect import Dialect
from compute.errors import InvalidInput
from compute.requests.request import require_kind
from compute.schemas.enums import TaskType
from compute.tasks.registry import TaskKind, all_kinds

__all__ = ["TaskBody", "read_generation", "read_task"]


_TYPE_FIELDS = ("task_type", "type")


@dataclass(frozen=True, slots=True)
class TaskBody:
    """The type that a body names, its other fields, and the dialect in which it is to be answered."""

    kind: TaskKind[Any]
    fields: dict[str, Any]
    dialect: Dialect


def read_task(body: dict[str, Any]) -> TaskBody:
    """A body of `POST /tasks/`: `type` is the quick start's word, `task_type` the canonical one.

    Raises:
        InvalidInput: there is no such type, or the two names say different things.
    """
    quickstart = "type" in body and "task_type" not in body
    return _read(body, Dialect.QUICKSTART if quickstart else Dialect.CANONICAL)


def read_generation(body: dict[str, Any]) -> TaskBody:
    """A body of `POST /tasks/generation`, the quick start's unless it names its `task_type`.

    Raises:
        InvalidInput: it names another type.
    """
    read = _read(body, Dialect.CANONICAL if "task_type" in body else Dialect.QUICKSTART)
    if read.kind.name is not TaskType.GENERATION:
        field = "task_type" if "task_type" in body else "type"
        raise InvalidInput(f"Field `{field}` must be GENERATION here; send {read.kind.name} to /tasks/.", field=field)
    return read


def _read(body: dict[str, Any], dialect: Dialect) -> TaskBody:
    """The type may stand under either name or both; it is GENERATION if there is none."""
    named = {field: require_kind(body[field], field=field) for field in _TYPE_FIELDS if field in body}
    first, *others = named.values() or (all_kinds()[TaskType.GENERATION],)
    if others and others[0] is not first:
        raise InvalidInput(f"Field `type` says {others[0].name}, but `task_type` says {first.name}.", field="type")
    return TaskBody(first, {name: value for name, value in body.items() if name not in _TYPE_FIELDS}, dialect)
