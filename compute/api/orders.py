"""What a body orders: its type, its dialect and its fields, checked as far as that needs no network."""

from dataclasses import dataclass
from typing import Any

from compute.api.body import validated
from compute.api.dialect import Dialect
from compute.api.providers import check_providers
from compute.api.serving import ServedModel, Serving
from compute.errors import InvalidInput
from compute.schemas.enums import TaskType
from compute.schemas.tasks import CreateTask
from compute.tasks.registry import TaskKind, all_kinds, kind_named

__all__ = ["Order", "order_generation", "order_of"]


@dataclass(frozen=True, slots=True)
class Order:
    """A request that is sound in itself. `served` is the model behind its queue."""

    kind: TaskKind[Any]
    dialect: Dialect
    request: CreateTask
    served: ServedModel


def order_of(body: dict[str, Any], serving: Serving) -> Order:
    """What a body of `POST /tasks/` orders: `type` is the quick start's word, `task_type` the canonical one.

    Raises:
        InvalidInput, RequestValidationError: it cannot be accepted.
    """
    if "type" in body and "task_type" not in body:
        return _order(_named_kind(body["type"]), Dialect.QUICKSTART, _without_type(body), serving)
    kind = _named_kind(body.get("task_type", TaskType.GENERATION))
    return _order(kind, Dialect.CANONICAL, body | {"task_type": kind.name}, serving)


def order_generation(body: dict[str, Any], serving: Serving) -> Order:
    """What a body of `POST /tasks/generation` orders.

    Raises:
        InvalidInput, RequestValidationError: it cannot be accepted.
    """
    dialect = Dialect.CANONICAL if "task_type" in body else Dialect.QUICKSTART
    return _order(all_kinds()[TaskType.GENERATION], dialect, _without_type(body), serving)


def _order(kind: TaskKind[Any], dialect: Dialect, fields: dict[str, Any], serving: Serving) -> Order:
    request = validated(kind.create_model, fields)
    served = serving.pool(request.queue_name or kind.queue_for(request), kind.roles_for(request))
    check_providers(request, kind)
    return Order(kind, dialect, request, served)


def _without_type(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "type"}


def _named_kind(name: Any) -> TaskKind[Any]:
    try:
        return kind_named(name)
    except KeyError:
        known = ", ".join(all_kinds())
        raise InvalidInput(f"There is no such task type here; known: {known}.", field="task_type") from None
