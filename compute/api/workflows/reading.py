"""A body of `POST /workflows/` as far as it can be read: the definition that it amounts to, and all that is wrong.

What cannot be read is left out of the definition, so that the rest can be checked in one go with it. The quick start's
steps have `name` and `type`; here they become canonical ones, and faults get the caller's words again.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from compute.api.dialect import Dialect
from compute.errors import InvalidFields, InvalidInput
from compute.requests.request import require_kind
from compute.schemas.enums import TaskType
from compute.schemas.rules.sentences import Fault, presented, same_as
from compute.schemas.workflows import CreateWorkflow
from compute.workflows.definition.check import Reading

__all__ = ["Body", "read_body"]

_OPERATIONS: dict[str, tuple[TaskType, dict[str, str]]] = {
    "upscale": (TaskType.REFINE, {"scale": "upscale_factor"}),
    "remove-background": (TaskType.BACKGROUND_REMOVAL, {}),
}
"""What the quick start calls `processing`: the type that does it, and other names of its fields."""

_TASK_FIELDS = frozenset({"config", "input_mappings", "when", "provider_config"})
"""Parts of a step without which nothing can be said of its tasks."""


@dataclass(slots=True)
class Body:
    """A body that was read. `spoken` are, for each step by its position, the caller's words for canonical ones."""

    dialect: Dialect
    reading: Reading | None = None
    faults: list[Fault] = field(default_factory=list)
    spoken: dict[int, dict[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)

    @contextmanager
    def in_its_words(self) -> Iterator[None]:
        """Makes faults of the definition say where in the body they are."""
        try:
            yield
        except InvalidFields as error:
            raise InvalidFields([self.said(fault) for fault in error.faults]) from None

    def said(self, fault: Fault) -> Fault:
        loc = tuple(fault["loc"])
        if loc[1:2] != ("steps",) or len(loc) < 4:
            return fault
        for words, own in self.spoken.get(int(loc[2]), {}).items():
            if loc[3 : 3 + len(words)] == words:
                message = str(fault["msg"]).replace(f"`{words[-1]}`", f"`{own[-1]}`") if own else fault["msg"]
                rest = loc[3 + len(words) :] if own[-1:] != ("depends_on",) else ()
                return fault | {"loc": (*loc[:3], *own, *rest), "msg": message}
        return fault


def read_body(body: dict[str, Any]) -> Body:
    """Read a body; nothing is raised. Without a `reading` nothing but `faults` is to be had of it."""
    steps = body.get("steps")
    quickstart = isinstance(steps, list) and any(isinstance(step, dict) and _is_quickstart(step) for step in steps)
    found = Body(Dialect.QUICKSTART if quickstart else Dialect.CANONICAL)
    unknown: set[int] = set()
    if isinstance(steps, list):
        made = []
        for index, step in enumerate(steps):
            canonical, faults, words = _quickstart(step) if quickstart else _canonical(step)
            found.spoken[index] = words
            found.faults += [_at(index, fault) for fault in faults]
            unknown |= {index} if faults else set()
            made.append(canonical)
        body = body | {"steps": made}
    _read(body, found, unknown)
    return found


def _is_quickstart(step: dict[str, Any]) -> bool:
    return "type" in step and "task_type" not in step


_Step = tuple[Any, list[InvalidInput], dict[tuple[str, ...], tuple[str, ...]]]


def _canonical(step: Any) -> _Step:
    """The step with the type's own name, where requests may use another one."""
    if not isinstance(step, dict) or not isinstance(step.get("task_type"), str):
        return step, [], {}
    try:
        return step | {"task_type": require_kind(step["task_type"]).name}, [], {}
    except InvalidInput as error:
        return step | {"task_type": TaskType.GENERATION}, [error], {}


def _quickstart(step: Any) -> _Step:
    """The step as a canonical one, as far as that can be said of it alone, and the words for it."""
    if not isinstance(step, dict):
        return step, [], {}
    words: dict[tuple[str, ...], tuple[str, ...]] = {("task_type",): ("type",)}
    if "name" in step or "id" not in step:
        words[("id",)] = ("name",)
    if "input_mappings" not in step:
        words[("input_mappings",)] = ("depends_on",) if step.get("depends_on") else ()
    rest = {name: value for name, value in step.items() if name not in ("name", "type")}
    made = rest | ({"id": step["name"]} if "name" in step else {})
    if "type" not in step:
        message = "This step is one of the quick start's: it has `name` and `type`, as the others have."
        faults = [InvalidInput(message, field=name) for name in ("name", "type") if name not in step]
        return made | {"task_type": TaskType.GENERATION, "id": step.get("id", "?")}, faults, words
    twins = [_twin(own, name) for own, name in (("name", "id"), ("type", "task_type")) if own in step and name in step]
    task_type, config = step["type"], step.get("config") or {}
    try:
        if str(task_type).lower() == "processing":
            task_type, names = _operation(config)
            words |= {("config", new): ("config", old) for old, new in names.items()}
            config = {names.get(name, name): value for name, value in config.items() if name != "operation"}
            made["config"] = config
        return made | {"task_type": require_kind(task_type, field="type").name}, twins, words
    except InvalidInput as error:
        if isinstance(config, dict):
            made["config"] = {name: value for name, value in config.items() if name != "operation"}
        return made | {"task_type": TaskType.GENERATION}, [*twins, error], words


def _operation(config: Any) -> tuple[TaskType, dict[str, str]]:
    operation = config.get("operation") if isinstance(config, dict) else None
    if not isinstance(operation, str) or operation not in _OPERATIONS:
        known = ", ".join(_OPERATIONS)
        raise InvalidInput(f"There is no such operation; known: {known}.", field="config.operation")
    task_type, names = _OPERATIONS[operation]
    for own, name in names.items():
        if own in config and name in config:
            raise _twin(own, name, prefix="config.")
    return task_type, names


def _twin(own: str, name: str, *, prefix: str = "") -> InvalidInput:
    """The fault of a field that is there under its canonical name, too."""
    return InvalidInput(same_as(own, name), field=f"{prefix}{own}")


def _at(index: int, fault: InvalidInput) -> Fault:
    loc = ("body", "steps", index, *fault.field.split("."))
    return {"loc": loc, "msg": fault.detail, "type": "invalid_workflow"}


def _read(body: dict[str, Any], found: Body, unknown: set[int]) -> None:
    """Validate the body; what is faulty is noted and left out, until the rest is a definition."""
    faults, partial, unread = _faults_of(body), set[int](), set[str]()
    found.faults += [found.said(fault) for fault in faults]
    steps = list(enumerate(body["steps"])) if isinstance(body.get("steps"), list) else []
    frame = {name: value for name, value in body.items() if name != "steps"}
    for fault in faults:
        loc = fault["loc"][1:]
        if loc[:1] != ("steps",):
            frame.pop(str(loc[0]) if loc else "", None)
    sound = []
    for index, step in steps:
        mended, lost = _mended(step, [fault["loc"][3:] for fault in faults if fault["loc"][1:3] == ("steps", index)])
        partial |= {index} if lost & _TASK_FIELDS else set()
        if mended is None or _faults_of({"name": "x", "steps": [mended]}):
            name = step.get("id") if isinstance(step, dict) else None
            unread |= {name} if isinstance(name, str) else set()
        else:
            sound.append((index, mended))
    if sound:
        rest = {"name": "x"} | frame | {"steps": [step for _, step in sound]}
        if not _faults_of(rest):
            found.reading = Reading(
                CreateWorkflow.model_validate(rest),
                tuple(index for index, _ in sound),
                frozenset(unread),
                frozenset(partial),
                frozenset(unknown),
                whole=len(sound) == len(steps),
            )


def _mended(step: Any, locs: Sequence[tuple[Any, ...]]) -> tuple[Any, set[str]]:
    """The step without its faulty parts, and their names; None if it is not to be had without them."""
    if not isinstance(step, Mapping):
        return None, set()
    lost = {str(loc[0]) for loc in locs if loc}
    if not locs:
        return step, set()
    if lost & {"id", "task_type"} or any(not loc for loc in locs):
        return None, lost
    return {name: value for name, value in step.items() if name not in lost}, lost


def _faults_of(body: dict[str, Any]) -> list[Fault]:
    try:
        CreateWorkflow.model_validate(body)
    except ValidationError as error:
        return presented(error.errors(include_url=False), sent=body, model=CreateWorkflow, at=("body",))
    return []
