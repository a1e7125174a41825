"""What a body orders, and in which dialect."""

from dataclasses import dataclass
from typing import Any

from compute.api.dialect import Dialect
from compute.orders.order import Order, named_kind, order
from compute.orders.serving import Serving
from compute.schemas.enums import TaskType
from compute.tasks.registry import TaskKind, all_kinds

__all__ = ["SpokenOrder", "order_generation", "order_of"]


@dataclass(frozen=True, slots=True)
class SpokenOrder(Order):
    """An order, and the dialect in which it is to be answered."""

    dialect: Dialect


def order_of(body: dict[str, Any], serving: Serving) -> SpokenOrder:
    """What a body of `POST /tasks/` orders: `type` is the quick start's word, `task_type` the canonical one.

    Raises:
        InvalidInput, RequestValidationError: it cannot be accepted.
    """
    if "type" in body and "task_type" not in body:
        return _spoken(named_kind(body["type"]), Dialect.QUICKSTART, _without_type(body), serving)
    kind = named_kind(body.get("task_type", TaskType.GENERATION))
    return _spoken(kind, Dialect.CANONICAL, body | {"task_type": kind.name}, serving)


def order_generation(body: dict[str, Any], serving: Serving) -> SpokenOrder:
    """What a body of `POST /tasks/generation` orders.

    Raises:
        InvalidInput, RequestValidationError: it cannot be accepted.
    """
    dialect = Dialect.CANONICAL if "task_type" in body else Dialect.QUICKSTART
    return _spoken(all_kinds()[TaskType.GENERATION], dialect, _without_type(body), serving)


def _spoken(kind: TaskKind[Any], dialect: Dialect, fields: dict[str, Any], serving: Serving) -> SpokenOrder:
    placed = order(kind, fields, serving)
    return SpokenOrder(placed.kind, placed.request, placed.served, dialect)


def _without_type(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "type"}
