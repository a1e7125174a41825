"""What a set of fields orders, checked as far as that needs no network, and the row that it becomes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from compute.db.as_sent import kept_as_sent
from compute.db.tables import Task
from compute.errors import InvalidFields, InvalidInput
from compute.requests.faults import named_as_sent
from compute.requests.providers import check_providers
from compute.requests.serving import ServedModel, Serving
from compute.schemas.enums import ProviderType, TaskStatus
from compute.schemas.rules.sentences import presented
from compute.schemas.tasks import CreateTask
from compute.tasks.ids import new_task_id
from compute.tasks.registry import Intake, TaskKind, all_kinds, find_kind

__all__ = ["Order", "new_task", "order", "prepared", "require_kind", "validated"]

ModelT = TypeVar("ModelT", bound=BaseModel)

_KEPT_IN_SPEC = {
    "native",
    "provider_config",
    "active_provider_capabilities",
    "fallback_provider_type",
    "fallback_provider_config",
    "fallback_provider_capabilities",
}
_SENT = ("config", "provider_config", "fallback_provider_config")
"""Objects that are the caller's own, kept as they were sent."""
_BLANK = dict.fromkeys(column.key for column in Task.__table__.columns)
DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class Order:
    """A request that is sound in itself. `served` is the model behind its queue, `sent` the fields as they came."""

    kind: TaskKind[Any]
    request: CreateTask
    served: ServedModel
    sent: Mapping[str, Any]


def require_kind(name: Any, *, field: str = "task_type") -> TaskKind[Any]:
    """The type that a request names.

    Raises:
        InvalidInput: there is none of that name; lists those that there are.
    """
    try:
        return find_kind(name)
    except KeyError:
        known = ", ".join(all_kinds())
        raise InvalidInput(f"There is no such task type here; known: {known}.", field=field) from None


def order(kind: TaskKind[Any], fields: dict[str, Any], serving: Serving) -> Order:
    """What `fields` order of a type.

    Raises:
        InvalidInput, InvalidFields: it cannot be accepted.
    """
    request = validated(kind.create_model, fields)
    with named_as_sent(kind.create_model, fields):
        served = serving.pool(request.queue_name or kind.queue_for(request), kind.roles_for(request))
        check_providers(request, kind)
    return Order(kind, request, served, fields)


def validated(model: type[ModelT], body: dict[str, Any]) -> ModelT:
    """`body` as a model.

    Raises:
        InvalidFields: it does not fit; the errors name the fields and do not repeat the input.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise InvalidFields(presented(error.errors(include_url=False), sent=body, model=model, at=("body",))) from None


async def new_task(order: Order, intake: Intake) -> Task:
    """The row of an order, but for its times, which are the database's.

    Raises:
        InvalidInput: its inputs cannot be had.
    """
    return _row(order, await prepared(order, intake))


async def prepared(order: Order, intake: Intake) -> dict[str, Any]:
    """The `spec` of an order, whose inputs are noted in `intake`.

    Raises:
        InvalidInput, TooLarge: its inputs cannot be had; speaks of fields as they were sent.
    """
    with named_as_sent(order.kind.create_model, order.sent):
        spec: dict[str, Any] = await order.kind.prepare(order.request, intake)
    return spec


def _row(order: Order, spec: dict[str, Any]) -> Task:
    request = order.request
    also_kept = _KEPT_IN_SPEC & request.model_fields_set
    if also_kept:
        kept = request.model_dump(mode="json", include=also_kept)
        spec = spec | {name: value for name, value in kept.items() if value is not None}
    task = Task()
    # All at once, and whole: it never enters a session, which alone would need to be told of every attribute.
    vars(task).update(
        _BLANK,
        id=new_task_id(),
        task_type=order.kind.name,
        queue=order.served.queue,
        tenant=request.origin_tenant_id or DEFAULT_TENANT,
        priority=int(request.priority),
        status=TaskStatus.PENDING,
        progress=0.0,
        retry_count=0,
        errors=[],
        spec=spec,
        config=request.config,
        sent=kept_as_sent({name: getattr(request, name) for name in _SENT}),
        origin_instance=request.origin_instance,
        origin_zone=request.origin_zone,
        origin_tenant_id=request.origin_tenant_id,
        origin_reference=request.origin_reference,
        workflow_id=request.workflow_id,
        webhook_url=request.webhook_url,
        provider_type=request.provider_type or ProviderType.LOCAL,
    )
    return task
