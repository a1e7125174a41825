"""A request for one task: its fields are checked, its inputs are fetched, and it becomes a row of `tasks`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from compute.db.as_sent import kept_as_sent
from compute.db.tables import Task
from compute.errors import InvalidInput
from compute.requests.executors import Executor, executors_of
from compute.requests.faults import named_as_sent
from compute.requests.inputs import RequestInputs
from compute.requests.serving import ServedModel, Serving
from compute.requests.validate import validate
from compute.schemas.enums import TaskStatus
from compute.schemas.tasks import FREE_FIELDS, PROVIDER_FIELDS, CreateTask
from compute.tasks.ids import new_task_id
from compute.tasks.leases import FALLBACK
from compute.tasks.registry import Inputs, TaskKind, all_kinds, find_kind
from compute.telemetry.tracing import current_traceparent

__all__ = ["TaskRequest", "require_kind"]

_KEPT_IN_SPEC = {"native", *PROVIDER_FIELDS} - {"provider_config"}
_BLANK = dict.fromkeys(column.key for column in Task.__table__.columns)
DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """A request for a task that is sound in itself. It knows no dialect.

    Attributes:
        kind: The type of the task.
        body: The fields, as the type's model.
        first: The provider that executes it.
        fallback: The provider that executes it when the first one cannot.
        serving: The pools here.
        sent: The fields as they came; errors call them by these names.
    """

    kind: TaskKind[Any]
    body: CreateTask
    first: Executor
    fallback: Executor | None
    serving: Serving
    sent: Mapping[str, Any]

    @property
    def served(self) -> ServedModel:
        """The pool behind the queue."""
        return self.first.served

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
            first, fallback = executors_of(body, kind, serving)
        return cls(kind, body, first, fallback, serving, fields)

    async def prepare(self, inputs: RequestInputs) -> dict[str, Any]:
        """The task's `spec`. What the request names is noted in `inputs`.

        Raises:
            InvalidInput, TooLarge: its inputs cannot be had; speaks of fields as they were sent.
        """
        with named_as_sent(self.kind.create_model, self.sent):
            spec = await self._spec(self.first, inputs)
            if self.fallback is not None:
                spec[FALLBACK] = {
                    "queue": self.fallback.served.queue,
                    "provider_type": self.fallback.provider.name.value,
                    "spec": await self._spec(self.fallback, inputs.on(self.fallback.served)),
                }
        return spec

    async def _spec(self, executor: Executor, inputs: Inputs) -> dict[str, Any]:
        """What an executor needs."""
        also_kept = _KEPT_IN_SPEC & self.body.model_fields_set
        kept = self.body.model_dump(mode="json", include=also_kept) if also_kept else {}
        spec: dict[str, Any] = await self.kind.prepare(self.body, inputs)
        spec |= {name: value for name, value in kept.items() if value is not None}
        spec |= executor.spec
        executor.check(self.kind, spec, self.serving)
        return spec

    async def to_row(self, inputs: RequestInputs) -> Task:
        """The task's row, but for its times, which are the database's.

        Raises:
            InvalidInput, TooLarge: as `prepare` does.
        """
        body, spec = self.body, await self.prepare(inputs)
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
            provider_type=self.first.provider.name,
            traceparent=current_traceparent(),
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
