"""What a body orders, and in which dialect."""

from dataclasses import dataclass
from typing import Any

from compute.api.dialect import Dialect
from compute.errors import InvalidInput
from compute.requests.request import Order, order, require_kind
from compute.requests.serving import Serving
from compute.schemas.enums import TaskType
from compute.tasks.registry import TaskKind, all_kinds

__all__ = ["SpokenOrder", "order_generation", "order_of"]


_TYPE_FIELDS = ("task_type", "type")


@dataclass(frozen=True, slots=True)
class SpokenOrder(Order):
    """An order, and the dialect in which it is to be answered."""

    dialect: Dialect


def order_of(body: dict[str, Any], serving: Serving) -> SpokenOrder:
    """What a body of `POST /tasks/` orders: `type` is the quick start's word, `task_type` the canonical one.

    Raises:
        InvalidInput, InvalidFields: it cannot be accepted.
    """
    quickstart = "type" in body and "task_type" not in body
    dialect = Dialect.QUICKSTART if quickstart else Dialect.CANONICAL
    return _spoken(_kind_in(body), dialect, _without_types(body), serving)


def order_generation(body: dict[str, Any], serving: Serving) -> SpokenOrder:
    """What a body of `POST /tasks/generation` orders.

    Raises:
        InvalidInput, InvalidFields: it cannot be accepted.
    """
    kind = _kind_in(body)
    if kind.name is not TaskType.GENERATION:
        field = "task_type" if "task_type" in body else "type"
        raise InvalidInput(f"Field `{field}` must be GENERATION here; send {kind.name} to /tasks/.", field=field)
    dialect = Dialect.CANONICAL if "task_type" in body else Dialect.QUICKSTART
    return _spoken(kind, dialect, _without_types(body), serving)


def _kind_in(body: dict[str, Any]) -> TaskKind[Any]:
    """The type that a body names, under either name or both; GENERATION if it names none.

    Raises:
        InvalidInput: there is no such type, or the two names say different things.
    """
    named = {field: require_kind(body[field], field=field) for field in _TYPE_FIELDS if field in body}
    first, *others = named.values() or (all_kinds()[TaskType.GENERATION],)
    if others and others[0] is not first:
        raise InvalidInput(f"Field `type` says {others[0].name}, but `task_type` says {first.name}.", field="type")
    return first


def _spoken(kind: TaskKind[Any], dialect: Dialect, fields: dict[str, Any], serving: Serving) -> SpokenOrder:
    placed = order(kind, fields, serving)
    return SpokenOrder(placed.kind, placed.request, placed.served, placed.sent, dialect)


def _without_types(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in _TYPE_FIELDS}
