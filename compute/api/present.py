"""A row of `tasks` as a client sees it, in either dialect."""

from typing import Any

from compute.api.dialect import Dialect, quickstart_id
from compute.api.links import RequestLinks
from compute.db.tables import Task
from compute.schemas.enums import TaskStatus
from compute.schemas.quickstart import QuickstartImage, QuickstartOutput, QuickstartStatus, QuickstartTask
from compute.schemas.tasks import TaskPublic
from compute.tasks.registry import kind_of

__all__ = ["present", "present_canonical", "present_quickstart", "quickstart_status"]

_QUICKSTART_STATUS: dict[TaskStatus, QuickstartStatus] = {
    TaskStatus.PENDING: "pending",
    # The samples know no "queued"; to them a task that waits is pending.
    TaskStatus.QUEUED: "pending",
    TaskStatus.EXECUTING: "running",
    TaskStatus.COMPLETED: "completed",
    TaskStatus.FAILED: "failed",
    TaskStatus.CANCELLED: "cancelled",
}
_FROM_SPEC = (
    "provider_config",
    "active_provider_capabilities",
    "fallback_provider_type",
    "fallback_provider_config",
    "fallback_provider_capabilities",
)
_FROM_ROW = (
    "id",
    "priority",
    "status",
    "progress",
    "config",
    "origin_instance",
    "origin_zone",
    "origin_tenant_id",
    "origin_reference",
    "created_at",
    "updated_at",
    "started_at",
    "completed_at",
    "executor_type",
    "executor_instance",
    "celery_task_id",
    "service_task_id",
    "provider_type",
    "error_category",
    "retry_count",
)


async def present(task: Task, dialect: Dialect, links: RequestLinks) -> TaskPublic | QuickstartTask:
    if dialect is Dialect.QUICKSTART:
        return await present_quickstart(task, links)
    return await present_canonical(task, links)


async def present_canonical(task: Task, links: RequestLinks) -> TaskPublic:
    kind = kind_of(task.task_type)
    fields: dict[str, Any] = {name: getattr(task, name) for name in _FROM_ROW}
    fields |= {name: task.spec.get(name) for name in _FROM_SPEC}
    fields |= {"errors": task.errors or None, "metadata": (task.result or {}).get("metadata")}
    fields |= kind.public_fields(task)
    result = fields.get("result_image_path")
    if result and task.deleted_at is None:
        fields["result_image_url"] = await links.to(result)
    return kind.public_model(**fields)


async def present_quickstart(task: Task, links: RequestLinks) -> QuickstartTask:
    status = TaskStatus(task.status)
    failed = status is TaskStatus.FAILED and task.errors
    return QuickstartTask(
        id=quickstart_id(task.id),
        type=task.task_type.lower(),
        status=quickstart_status(status),
        progress=round(task.progress / 100, 4),
        created_at=task.created_at,
        started_at=task.started_at,
        completed_at=task.completed_at,
        output=await _output(task, links) if status is TaskStatus.COMPLETED else None,
        error=task.errors[-1] if failed else None,
    )


def quickstart_status(status: TaskStatus) -> QuickstartStatus:
    return _QUICKSTART_STATUS[status]


async def _output(task: Task, links: RequestLinks) -> QuickstartOutput:
    if task.deleted_at is not None:
        return QuickstartOutput(images=[])
    artifacts = (task.result or {}).get("artifacts", [])
    return QuickstartOutput(
        images=[QuickstartImage(url=await links.to(item["path"]), seed=item.get("seed")) for item in artifacts]
    )
