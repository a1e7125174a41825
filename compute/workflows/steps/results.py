"""The result of a step, which other steps take from, and the hash of its request."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_jsonable_python

from compute.db.tables import Task
from compute.requests.serving import ServedModel
from compute.tasks.registry import TaskKind
from compute.tasks.results import artifacts_of, metadata_of
from compute.workflows.definition.fields import source_shapes

__all__ = ["content_hash", "result_of"]


def result_of(kind: TaskKind[Any], tasks: Sequence[Task], *, many: bool) -> dict[str, Any]:
    """The fields of the step's task; with `many`, a list for every field, and one list made of lists."""
    each = [_fields(kind, task) for task in tasks]
    if not many:
        return each[0]
    names = {name for fields in each for name in fields} or _results_of(kind)
    return {name: _gathered([fields.get(name) for fields in each]) for name in sorted(names)}


def content_hash(kind: TaskKind[Any], served: ServedModel | None, body: Any, files: Mapping[str, str]) -> str:
    """Tells steps that are asked for the same from others: their type, model and fields.

    `files` names, for strings that stand for files, what tells their content; a step without a seed is the same as
    another one without.
    """
    said = json.dumps([kind.name, served and [served.name, served.revision], _by_content(body, files)], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def _by_content(value: Any, files: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return files.get(value, value)
    if isinstance(value, Mapping):
        return {name: _by_content(item, files) for name, item in value.items()}
    return [_by_content(item, files) for item in value] if isinstance(value, list) else value


def _fields(kind: TaskKind[Any], task: Task) -> dict[str, Any]:
    fields = kind.public_fields(task) | {"outputs": artifacts_of(task), "metadata": metadata_of(task)}
    return {name: to_jsonable_python(value) for name, value in fields.items() if value is not None}


def _gathered(values: list[Any]) -> list[Any]:
    if any(isinstance(value, list) for value in values):
        return [item for value in values for item in value or []]
    return values


def _results_of(kind: TaskKind[Any]) -> set[str]:
    """Names of the fields that the results of this type have; a step without tasks has none of them."""
    return {name for name in source_shapes(kind) if name.startswith("result_")} | {"outputs"}
