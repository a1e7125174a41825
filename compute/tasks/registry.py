"""Task types, discovered from the modules of `compute.tasks.types`.

A new type is one file there that defines one subclass of `TaskKind`; the API's unions, its documentation and
the workers find it here.
"""

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType, ModuleType
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from compute.db.tables import Task
from compute.errors import InvalidInput
from compute.schemas.enums import ProviderCapability, ProviderType, TaskType
from compute.schemas.tasks import CreateTask, TaskPublic, TaskUpdate
from compute.tasks import types
from compute.tasks.operations import Operation
from compute.worker.protocol import Job, Role, WorkerContext, WorkEvent

__all__ = ["InputImage", "Inputs", "ProviderOnlyKind", "TaskKind", "all_kinds", "find_kind", "kind_of"]

CreateT = TypeVar("CreateT", bound=CreateTask)


@dataclass(frozen=True, slots=True)
class InputImage:
    """An image that a request named, as it will lie in the object store; sizes in pixels."""

    path: str
    width: int
    height: int


class Inputs(Protocol):
    """Checks and fetches the inputs of a request for its type. Nothing is kept if a check fails."""

    @property
    def roles(self) -> frozenset[Role]:
        """The models that the request's queue has."""
        ...

    @property
    def max_pixels(self) -> int:
        """The largest image, width x height, that is fetched or made."""
        ...

    @property
    def size_multiple(self) -> int:
        """Width and height must be multiples of this many pixels."""
        ...

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names that a request may give the model, the default first."""
        ...

    async def image(self, source: str, *, field: str) -> InputImage:
        """An image given as URL, data URL, base64 or stored path.

        Raises:
            InvalidInput: it cannot be had, or is no image we accept.
        """
        ...

    async def lora(self, path: str, *, field: str) -> str:
        """The storage path of a LoRA that exists and fits the model.

        Raises:
            InvalidInput: it is missing, damaged or for another model.
        """
        ...


class TaskKind(ABC, Generic[CreateT]):
    """One task type: its models, its queue, and how it is prepared, run and shown."""

    name: ClassVar[TaskType]
    aliases: ClassVar[tuple[str, ...]] = ()
    """What else a request may call it."""
    queue: ClassVar[str]
    roles: ClassVar[frozenset[Role]] = frozenset({"draw"})
    """The models that its queue must have; none for work that needs no model."""
    image_fields: ClassVar[tuple[str, ...]]
    """The fields of a request that take the image it works on, or starts from; the first by address or path. None for
    a type that takes no image."""
    folder: ClassVar[str]
    """Where its results lie in the object store: `{folder}/{task_id}/…`."""
    capabilities: ClassVar[frozenset[ProviderCapability]]
    """What the local pipelines can do for this type."""
    default_provider: ClassVar[ProviderType] = ProviderType.LOCAL
    """The provider of a request that names none."""

    create_model: ClassVar[type[CreateTask]]
    public_model: ClassVar[type[TaskPublic]]
    update_model: ClassVar[type[TaskUpdate]]

    def queue_for(self, request: CreateT) -> str:
        """The queue of a request that names none."""
        return self.queue

    def roles_for(self, request: CreateT) -> frozenset[Role]:
        """The models that the request's queue must have."""
        return self.roles

    @abstractmethod
    async def prepare(self, request: CreateT, inputs: Inputs) -> dict[str, Any]:
        """Check a request and make the `spec` that a worker needs, complete enough to give the same result
        at every attempt.

        Raises:
            InvalidInput: the request cannot be done; names the field.
        """

    async def prepare_update(self, changes: dict[str, Any], spec: dict[str, Any], inputs: Inputs) -> dict[str, Any]:
        """The entries of `spec` that a client's changes replace while the task waits; none by default.

        Raises:
            InvalidInput: a new value cannot be used; names the field.
        """
        return {}

    def operation(self, spec: dict[str, Any]) -> Operation | None:
        """What a `spec` asks of a provider elsewhere; None for work that only this cluster does."""
        return None

    @abstractmethod
    def run(self, job: Job, worker: WorkerContext) -> AsyncGenerator[WorkEvent]:
        """Do the work. See `compute.worker.protocol` for what is yielded and raised."""

    @abstractmethod
    def public_fields(self, task: Task) -> dict[str, Any]:
        """The fields of `public_model` that this type adds to the common ones."""


class ProviderOnlyKind(TaskKind[CreateT]):
    """A type that providers elsewhere execute, and never this cluster. `default_provider` is one of them."""

    roles = frozenset()
    capabilities = frozenset()

    def refuse_local(self, request: CreateTask) -> None:
        """Check that a request does not name this cluster as its provider.

        Raises:
            InvalidInput: it does.
        """
        for field in ("provider_type", "fallback_provider_type"):
            if getattr(request, field) is ProviderType.LOCAL:
                raise InvalidInput(self._not_here(), field=field)

    def run(self, job: Job, worker: WorkerContext) -> AsyncGenerator[WorkEvent]:
        return _refused(self._not_here())

    def _not_here(self) -> str:
        return (
            f"Tasks of type {self.name} run at other providers, such as {self.default_provider}, not on this cluster."
        )


async def _refused(detail: str) -> AsyncGenerator[WorkEvent]:
    nothing: tuple[WorkEvent, ...] = ()
    for event in nothing:
        yield event
    raise InvalidInput(detail, field="provider_type")


@cache
def all_kinds() -> Mapping[TaskType, TaskKind[Any]]:
    """Every task type by name.

    Raises:
        RuntimeError: a module defines no type, or two define the same.
    """
    kinds: dict[TaskType, TaskKind[Any]] = {}
    for found in pkgutil.walk_packages(types.__path__, f"{types.__name__}."):
        if found.ispkg:
            continue
        kind = _only_kind(importlib.import_module(found.name))
        if kind.name in kinds:
            raise RuntimeError(f"{kind.name} is defined twice, the second time in {found.name}")
        kinds[kind.name] = kind
    return MappingProxyType(kinds)


def kind_of(task_type: str) -> TaskKind[Any]:
    """The type of a stored row.

    Raises:
        KeyError: no such type is installed.
    """
    return all_kinds()[TaskType(task_type)]


def find_kind(name: object) -> TaskKind[Any]:
    """The type that a request names, in any case or by an alias.

    Example:
        find_kind("background_remove").name  # TaskType.BACKGROUND_REMOVAL

    Raises:
        KeyError: no such type is installed.
    """
    return _by_name()[str(name).upper()]


@cache
def _by_name() -> Mapping[str, TaskKind[Any]]:
    return {name: kind for kind in all_kinds().values() for name in (kind.name.value, *kind.aliases)}


def _only_kind(module: ModuleType) -> TaskKind[Any]:
    defined = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, TaskKind) and member.__module__ == module.__name__
    ]
    if len(defined) != 1:
        raise RuntimeError(f"{module.__name__} must define exactly one TaskKind, found {len(defined)}")
    kind: TaskKind[Any] = defined[0]()
    return kind
