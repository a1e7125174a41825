"""A row of `tasks` as a client sees it, in either dialect."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from compute.api.columns import shown_columns
from compute.api.dialect import Dialect, quickstart_id
from compute.api.links import RequestLinks
from compute.db.tables import Task
from compute.schemas.enums import TaskStatus
from compute.schemas.quickstart.tasks import QuickstartFile, QuickstartOutput, QuickstartStatus, QuickstartTask
from compute.schemas.storage import QuickstartTaskCleanup, TaskCleanup
from compute.schemas.tasks import PROVIDER_FIELDS, TaskPublic
from compute.tasks.registry import kind_of
from compute.tasks.results import artifacts_of, is_video

__all__ = [
    "QUICKSTART_STATUS",
    "present",
    "present_canonical",
    "present_quickstart",
    "quickstart_output",
    "quickstart_status",
    "render_new",
]

QUICKSTART_STATUS: dict[TaskStatus, QuickstartStatus] = {
    TaskStatus.PENDING: "pending",
    # The samples know no "queued"; to them a task that waits is pending.
    TaskStatus.QUEUED: "pending",
    TaskStatus.EXECUTING: "running",
    TaskStatus.COMPLETED: "completed",
    TaskStatus.FAILED: "failed",
    TaskStatus.CANCELLED: "cancelled",
}
_FROM_ROW = shown_columns(TaskPublic, Task)
_read_row = attrgetter(*_FROM_ROW)


async def present(
    task: Task, dialect: Dialect, links: RequestLinks, also: Mapping[str, Any] | None = None
) -> TaskPublic | QuickstartTask:
    """A task in this dialect; `also` are fields of the canonical one that are not in its row."""
    if dialect is Dialect.QUICKSTART:
        return await present_quickstart(task, links)
    return await present_canonical(task, links, also)


def render_new(task: Task, dialect: Dialect) -> str:
    """A task that was just accepted, as JSON. It has no result, and so no links."""
    if dialect is Dialect.QUICKSTART:
        return _quickstart(task, None).model_dump_json()
    return kind_of(task.task_type).public_model(**_canonical_fields(task)).model_dump_json()


async def present_canonical(task: Task, links: RequestLinks, also: Mapping[str, Any] | None = None) -> TaskPublic:
    fields = _canonical_fields(task) | dict(also or {})
    if task.deleted_at is None:
        for name in ("result_image", "result_video", "result"):
            if path := fields.get(f"{name}_path"):
                fields[f"{name}_url"] = await links.to(path)
        if paths := fields.get("result_image_paths"):
            fields["result_image_urls"] = [await links.to(path) for path in paths]
    return kind_of(task.task_type).public_model(**fields)


async def present_quickstart(task: Task, links: RequestLinks) -> QuickstartTask:
    return _quickstart(task, await _output(task, links) if task.status == TaskStatus.COMPLETED else None)


def present_cleanup(task: Task, removed: int, *, dialect: Dialect) -> TaskCleanup | QuickstartTaskCleanup:
    """A task of which `removed` files are gone."""
    assert task.deleted_at is not None  # noqa: S101 - that is what cleaning up sets
    if dialect is Dialect.QUICKSTART:
        return QuickstartTaskCleanup(task_id=quickstart_id(task.id), deleted_at=task.deleted_at, deleted_files=removed)
    return TaskCleanup(task_id=task.id, deleted_at=task.deleted_at, deleted_files=removed)


def quickstart_status(status: TaskStatus) -> QuickstartStatus:
    return QUICKSTART_STATUS[status]


def _canonical_fields(task: Task) -> dict[str, Any]:
    fields: dict[str, Any] = dict(zip(_FROM_ROW, _read_row(task), strict=True))
    spec = task.spec
    for name in PROVIDER_FIELDS:
        fields[name] = spec.get(name)
    fields |= task.sent or {}
    if spec.get("fell_back_from"):
        # It was sent for the provider that could not do it.
        fields["provider_config"] = spec.get("provider_config")
    fields["fell_back_from"] = spec.get("fell_back_from")
    fields["errors"] = task.errors or None
    if task.result is not None:
        fields["metadata"] = task.result.get("metadata", {}) | {"outputs": task.result.get("artifacts", [])}
    return fields | kind_of(task.task_type).public_fields(task)


def _quickstart(task: Task, output: QuickstartOutput | None) -> QuickstartTask:
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
        output=output,
        error=task.errors[-1] if failed else None,
    )


async def quickstart_output(artifacts: Sequence[dict[str, Any]], links: RequestLinks) -> QuickstartOutput:
    """Results as the quick start shows them."""
    shown = [
        (QuickstartFile(url=await links.to(artifact["path"]), seed=artifact.get("seed")), is_video(artifact))
        for artifact in artifacts
    ]
    images, videos = ([file for file, video in shown if video is wanted] for wanted in (False, True))
    return QuickstartOutput(images=images, videos=videos or None)


async def _output(task: Task, links: RequestLinks) -> QuickstartOutput:
    return await quickstart_output(artifacts_of(task) if task.deleted_at is None else [], links)
