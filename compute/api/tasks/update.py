"""Updates a task: what a client may set while it waits, and the end that a client reports."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.resources import Resources
from compute.db.as_sent import kept_as_sent
from compute.db.keys import get_row, lock_row
from compute.db.tables import ProviderCall, Task
from compute.errors import Conflict
from compute.events import notify
from compute.events.outbox.tasks import record
from compute.providers.calls.call import AGAIN
from compute.requests.executors import check_queue
from compute.requests.inputs import RequestInputs
from compute.requests.tenants import check_tenant
from compute.schemas.enums import EventType, TaskStatus
from compute.schemas.tasks import FREE_FIELDS, TaskUpdate
from compute.storage.readable import check_readable
from compute.storage.tenants import check_shown
from compute.tasks import store
from compute.tasks.leases import FALLBACK
from compute.tasks.registry import kind_of
from compute.tasks.states import TERMINAL, can_move

__all__ = ["update_task"]

_ALWAYS = {"config", "errors", "executor_type", "executor_instance", "celery_task_id", "service_task_id"} | {
    "origin_instance",
    "origin_zone",
    "origin_reference",
}
_WHILE_PENDING = {"priority", "queue_name", "origin_tenant_id"}
_IN_SPEC_ALWAYS = {"service_requests", "fal_app_id", "fal_request_id"}
_SENT = set(FREE_FIELDS)
_VERDICT = {"status", "result_image_path", "error_category"}
_ATTEMPTS = 20


async def update_task(resources: Resources, task_id: UUID, update: TaskUpdate) -> Task:
    """Apply what a client sent; a field that is None or absent stays as it is.

    Raises:
        NotFound: there is no such task.
        Conflict: the task's state forbids it, the field is the server's, or others change the task all the time.
        InvalidInput: a LoRA, image or queue that cannot be used.
    """
    for _ in range(_ATTEMPTS):
        async with resources.database.transaction() as session:
            current = await get_row(session, Task, task_id)
        changed = await _update(resources, current, update)
        if changed is not None:
            _notify(resources, changed)
            return changed
    raise Conflict(f"Task {task_id} is being changed by others all the time; try again.")


async def _update(resources: Resources, current: Task, update: TaskUpdate) -> Task | None:
    """Apply what a client sent to a task as it was read; None, and nothing is changed, if by the time its row is locked
    somebody has changed what its new inputs were derived from."""
    changes = {name: value for name, value in update.model_dump().items() if value is not None}
    check_tenant(changes.get("origin_tenant_id"), resources.tenant)
    await check_shown(resources.objects, changes.get("result_image_path"), field="result_image_path")
    read_from = current.spec, current.queue
    inputs, replaced = await _new_inputs(resources, current, update, changes)
    # Nothing is kept for a change that is refused.
    _verdict(current, changes)
    _apply(current, changes, replaced)
    await inputs.keep()
    async with resources.database.transaction() as session:
        task = await lock_row(session, Task, current.id)
        if (task.spec, task.queue) != read_from:
            return None
        if replaced:
            await _require_unsent(session, task)
        verdict = _verdict(task, changes)
        _apply(task, changes, replaced)
        task.updated_at = datetime.now(UTC)
        await session.flush()
        if verdict is not None:
            return await store.end(session, task.id, changes["status"], **verdict)
        await record(session, [task], EventType.TASK_UPDATED)
    return task


async def _new_inputs(
    resources: Resources, task: Task, update: TaskUpdate, changes: dict[str, Any]
) -> tuple[RequestInputs, dict[str, Any]]:
    """The part of `spec` that the changes replace, checked before any row is locked, and what must be kept for it."""
    kind = kind_of(task.task_type)
    served = resources.serving.queues.get(task.queue)
    if served is None:
        raise Conflict(f"No workers serve the queue `{task.queue}` of this task.")
    if (queue := changes.get("queue_name")) is not None:
        check_queue(queue, task.queue)
        # It was prepared for the models of its current queue; another one must have them, too.
        changes["queue_name"] = resources.serving.pool(queue, served.roles).queue
    inputs = RequestInputs(resources, served)
    return inputs, await kind.prepare_update(changes, task.spec, inputs)


def _apply(task: Task, changes: dict[str, Any], replaced: dict[str, Any]) -> None:
    status = TaskStatus(task.status)
    for name, value in changes.items():
        if name in _VERDICT:
            continue
        if name in _WHILE_PENDING or name in replaced:
            _require_pending(status, name)
        if name in _ALWAYS | _WHILE_PENDING:
            setattr(task, "queue" if name == "queue_name" else name, value)
        elif name not in replaced and name not in _IN_SPEC_ALWAYS:
            _require_unchanged(task, name, value)
    if "origin_tenant_id" in changes:
        task.tenant = changes["origin_tenant_id"]
    if sent := {name: changes[name] for name in _SENT & changes.keys()}:
        task.sent = kept_as_sent((task.sent or {}) | sent)
    task.spec = task.spec | replaced | {name: changes[name] for name in _IN_SPEC_ALWAYS & set(changes)}
    if replaced and (fallback := task.spec.get(FALLBACK)) is not None:
        task.spec[FALLBACK] = fallback | {"spec": fallback["spec"] | replaced}


async def _require_unsent(session: AsyncSession, task: Task) -> None:
    """Raises:
    Conflict: a provider was sent the task as it is, and may have done it.
    """
    sent = await session.scalar(
        select(ProviderCall.id).where(ProviderCall.task_id == task.id, ProviderCall.state.not_in(AGAIN)).limit(1)
    )
    if sent is not None:
        raise Conflict("The task was sent to its provider as it is, and can be changed no more.")


def _require_pending(status: TaskStatus, name: str) -> None:
    if status is not TaskStatus.PENDING:
        raise Conflict(f"Field `{name}` can be changed only while the task is PENDING; it is {status}.")


def _require_unchanged(task: Task, name: str, value: Any) -> None:
    if value != getattr(task, name, task.spec.get(name)):
        raise Conflict(f"Field `{name}` is set by the server.")


def _verdict(task: Task, changes: dict[str, Any]) -> dict[str, Any] | None:
    """The end that these changes bring to the task; None if they do not end it.

    Raises:
        Conflict: it cannot end so.
        InvalidInput: its result is no path.
    """
    status = TaskStatus(changes.get("status", task.status))
    if status == task.status:
        if "result_image_path" in changes:
            raise Conflict("Field `result_image_path` is set together with `status` COMPLETED.")
        return None
    if status not in TERMINAL:
        raise Conflict(f"A client cannot move a task to {status}; the Dispatcher does.")
    verdict = {"error_category": changes["error_category"]} if "error_category" in changes else {}
    if status is TaskStatus.COMPLETED:
        path = check_readable(changes.get("result_image_path", ""), field="result_image_path")
        verdict = {"error_category": None, "progress": 100.0, "result": {"artifacts": [{"path": path}], "metadata": {}}}
    if not can_move(TaskStatus(task.status), status):
        raise Conflict(f"Task {task.id} is {task.status} and cannot become {status}.")
    return verdict


def _notify(resources: Resources, task: Task) -> None:
    if TaskStatus(task.status) in TERMINAL:
        resources.notifier.notify(notify.CANCELLED, str(task.id))
    else:
        resources.notifier.notify(notify.READY, task.queue)
