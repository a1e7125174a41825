"""A request for one task: its fields are checked, its inputs are fetched, and it becomes a row of `tasks`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from compute.db.as_sent import kept_as_sent
from compute.db.tables import Task
from compute.errors import InvalidInput
from compute.requests.faults import named_as_sent
from compute.requests.providers import check_providers
from compute.requests.serving import ServedModel, Serving
from compute.requests.validate import validate
from compute.schemas.enums import ProviderType, TaskStatus
from compute.schemas.tasks import FREE_FIELDS, PROVIDER_FIELDS, CreateTask
from compute.tasks.ids import new_task_id
from compute.tasks.registry import Inputs, TaskKind, all_kinds, find_kind

__all__ = ["TaskRequest", "require_kind"]

_KEPT_IN_SPEC = {"native", *PROVIDER_FIELDS}
_BLANK = dict.fromkeys(column.key for column in Task.__table__.columns)
DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """A request for a task that is sound in itself. It knows no dialect.

    Attributes:
        kind: The type of the task.
        body: The fields, as the type's model.
        served: The model behind the queue.
        sent: The fields as they came; errors call them by these names.
    """

    kind: TaskKind[Any]
    body: CreateTask
    served: ServedModel
    sent: Mapping[str, Any]

    @classmethod
    def of(cls, kind: TaskKind[Any], fields: dict[str, Any], serving: Serving) -> Self:
        """The request that `fields` make, checked as far as that needs no network: fields, queue, models, provider.

        Example:
            request = TaskRequest.of(require_kind("generation"), {"prompt": "a red dress"}, serving)

        Raises:
            InvalidInput, InvalidFields: it cannot be accepted.
        """
        body = validate(kind.create_model, fields)
        with named_as_sent(kind.create_model, fields):
            served = serving.pool(body.queue_name or kind.queue_for(body), kind.roles_for(body))
            check_providers(body, kind)
        return cls(kind, body, served, fields)

    async def prepare(self, inputs: Inputs) -> dict[str, Any]:
        """The task's `spec`. What the request names is noted in `inputs`.

        Raises:
            InvalidInput, TooLarge: its inputs cannot be had; speaks of fields as they were sent.
        """
        with named_as_sent(self.kind.create_model, self.sent):
            spec: dict[str, Any] = await self.kind.prepare(self.body, inputs)
        return spec

    async def to_row(self, inputs: Inputs) -> Task:
        """The task's row, but for its times, which are the database's.

        Raises:
            InvalidInput, TooLarge: as `prepare` does.
        """
        body, spec = self.body, await self.prepare(inputs)
        also_kept = _KEPT_IN_SPEC & body.model_fields_set
        if also_kept:
            kept = body.model_dump(mode="json", include=also_kept)
            spec = spec | {name: value for name, value in kept.items() if value is not None}
        task = Task()
        # All at once, and whole: it never enters a session, which alone would need to be told of every attribute.
        vars(task).update(
            _BLANK,
            id=new_task_id(),
            task_type=self.kind.name,
            queue=self.served.queue,
            tenant=body.origin_tenant_id or DEFAULT_TENANT,
            priority=int(body.priority),
            status=TaskStatus.PENDING,
            progress=0.0,
            retry_count=0,
            errors=[],
            spec=spec,
            config=body.config,
            sent=kept_as_sent({name: getattr(body, name) for name in FREE_FIELDS}),
            origin_instance=body.origin_instance,
            origin_zone=body.origin_zone,
            origin_tenant_id=body.origin_tenant_id,
            origin_reference=body.origin_reference,
            workflow_id=body.workflow_id,
            webhook_url=body.webhook_url,
            provider_type=body.provider_type or ProviderType.LOCAL,
        )
        return task


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
