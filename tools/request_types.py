"""python -m tools.request_types: write the fields of every request, of the schemas, and the signatures that take them.

The client cannot import the models of task types, which bring the whole server with them. Afterwards
`python -m tools.unasync` makes the synchronous signatures.
"""

import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from compute.schemas.evaluation import EvaluationRequest
from compute.schemas.tasks import CreateTask
from compute.schemas.training import TrainingTaskCreate
from compute.schemas.workflows import CreateWorkflow
from compute.tasks.registry import all_kinds

__all__ = ["FIELDS", "SIGNATURES", "fields_written", "signatures_written"]

FIELDS = Path(__file__).parents[1] / "compute" / "client" / "requests.py"
SIGNATURES = FIELDS.parent / "aio" / "typed.py"
_OTHERS: dict[str, type[BaseModel]] = {
    "Training": TrainingTaskCreate,
    "Workflow": CreateWorkflow,
    "Evaluation": EvaluationRequest,
}
_HEAD = '''"""The fields of requests, for type checkers and editors; made by `python -m tools.request_types`.

A `submit` takes them as arguments: `submit("EDITING", base_image="refs/dress.png", prompt="make it blue")`.
"""

from collections.abc import Mapping
from typing import Any, Literal, Required, TypedDict

__all__ = [{names}]


'''
_TAIL = '''

BY_TYPE: Mapping[str, type] = {{{entries}}}
"""The fields of each type of task."""
OTHER_NAMES: Mapping[str, Mapping[str, str]] = {{{others}}}
"""Other names of some fields that the server takes, with the usual one of each, by type of task."""
'''
_TYPED = '''"""The signatures of `submit` and `run`, one for each type of task; by `python -m tools.request_types`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

if TYPE_CHECKING:
    from compute.client.events import Event
    from compute.client.models import Task
    from compute.client.requests import {names}

__all__ = ["AsyncTypedTasks"]


class AsyncTypedTasks(ABC):
    """What `AsyncTasks` does with fields that depend on the type of the task."""

'''
_DOCS = {
    "submit": '''
"""Have something done. The task is stored when this returns; it is one, however often the request is sent.

Args:
    task_type: The type, such as `GENERATION` or `EDITING`.
    body: Fields of the task, as a mapping or a model; `fields` are added to them.
    idempotency_key: A key of your own, under which a later call of this process or another gets this task.
        Without one, each call makes a key for itself.
    timeout: Seconds for all tries together.

Example:
    task = await client.tasks.submit(prompt="a red dress", width=512, height=512)
"""
''',
    "run": '''
"""Submit a task, wait for it, and return it completed.

Args:
    wait_timeout: Seconds to wait for its end; None waits without end.
    on_event: Called with every event before the last.

The others are those of `submit`, and the errors those of `submit` and `wait`.
"""
''',
}
_SUBMIT = "idempotency_key: str | None = None, timeout: float | None = None"
_RUN = "wait_timeout: float | None = None, on_event: Callable[[Event], object] | None = None"


def fields_written() -> str:
    """The module of fields."""
    kinds = {kind.value: _camel(kind.value) for kind in all_kinds()}
    names = ["BY_TYPE", "OTHER_NAMES", *sorted(f"{name}Fields" for name in ("Task", *kinds.values(), *_OTHERS))]
    parts = [_HEAD.format(names=", ".join(f'"{name}"' for name in names))]
    parts.append(_typed_dict("TaskFields", "TypedDict, total=False", "Every task", CreateTask, ()))
    for kind, found in all_kinds().items():
        title = f"A task of the type {kind.value}"
        name, common = f"{kinds[kind.value]}Fields", tuple(CreateTask.model_fields)
        parts.append(_typed_dict(name, "TaskFields, total=False", title, found.create_model, common))
    for name, model in _OTHERS.items():
        title = f"A request: {name.lower()}"
        parts.append(_typed_dict(f"{name}Fields", "TypedDict, total=False", title, model, ()))
    entries = ", ".join(f'"{kind}": {name}Fields' for kind, name in kinds.items())
    others = ", ".join(f'"{kind.value}": {_other_names(one.create_model)}' for kind, one in all_kinds().items())
    return _formatted("\n\n".join(parts) + _TAIL.format(entries=entries, others=others))


def signatures_written() -> str:
    """The module of signatures."""
    kinds = {kind.value: f"{_camel(kind.value)}Fields" for kind in sorted(all_kinds(), key=_first_generation)}
    source = _TYPED.format(names=", ".join(sorted(kinds.values())))
    for method, options in (("submit", _SUBMIT), ("run", f"{_RUN}, {_SUBMIT}")):
        for kind, name in kinds.items():
            default = ' = "GENERATION"' if kind == "GENERATION" else ""
            first = f'self, task_type: Literal["{kind}"]{default}, /'
            source += _overload(method, f"{first}, *, {options}, **fields: Unpack[{name}]")
        source += _overload(method, f"self, task_type: str, body: Any, /, *, {options}, **fields: Any")
        anything = 'self, task_type: str = "GENERATION", body: Any = None, /, **fields: Any'
        doc = textwrap.indent(_DOCS[method].strip(), "        ")
        source += f"    async def {method}({anything}) -> Task:\n{doc}\n"
        source += f"        return await self._{method}(task_type, body, **fields)\n\n"
        source += f"    @abstractmethod\n    async def _{method}({anything}) -> Task: ...\n\n"
    return _formatted(source)


def _first_generation(kind: str) -> tuple[bool, str]:
    return kind != "GENERATION", kind


def _overload(method: str, parameters: str) -> str:
    return f"    @overload\n    async def {method}({parameters}) -> Task: ...\n\n"


def _other_names(model: type[BaseModel]) -> str:
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        choices = field.validation_alias.choices if isinstance(field.validation_alias, AliasChoices) else []
        found |= {str(one): name for one in choices if one != name}
    return "{" + ", ".join(f'"{other}": "{name}"' for other, name in found.items()) + "}"


def _camel(word: str) -> str:
    return "".join(part if part == "LLM" else part.capitalize() for part in word.split("_"))


def _typed_dict(name: str, bases: str, title: str, model: type[BaseModel], left_out: tuple[str, ...]) -> str:
    fields = {one: field for one, field in model.model_fields.items() if one not in left_out and one != "task_type"}
    lines = [f'class {name}({bases}):\n    """{title}."""\n', *_lines(fields)]
    return "\n".join(lines)


def _lines(fields: dict[str, FieldInfo]) -> Iterator[str]:
    for name, field in fields.items():
        kind = _shown(field.annotation)
        yield f"    {name}: {f'Required[{kind}]' if field.is_required() else kind}"


def _shown(kind: Any) -> str:
    """A type as it is written, of what JSON has."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _shown(arguments[0])
    if origin is Literal:
        return "Literal[" + ", ".join(f'"{one}"' if isinstance(one, str) else str(one) for one in arguments) + "]"
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(_shown(one) for one in arguments))
    if origin is list:
        return f"list[{_shown(arguments[0])}]"
    if origin is tuple:
        return f"tuple[{', '.join(_shown(one) for one in arguments)}]"
    if kind is type(None):
        return "None"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "int" if issubclass(kind, IntEnum) else "str"
    if kind in (str, int, float, bool):
        return str(kind.__name__)
    if origin is dict or (isinstance(kind, type) and issubclass(kind, dict | BaseModel)):
        return "Mapping[str, Any]"
    return "Any" if kind is Any else "str"


def _formatted(source: str) -> str:
    run = [sys.executable, "-m", "ruff", "format", "--quiet", "--stdin-filename", str(FIELDS), "-"]
    return subprocess.run(run, input=source, capture_output=True, text=True, check=True).stdout  # noqa: S603


if __name__ == "__main__":
    FIELDS.write_text(fields_written())
    SIGNATURES.write_text(signatures_written())
