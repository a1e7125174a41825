"""One monitored task: all that its rows say, what happened to it, and its images and clips."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.columns import shown_columns
from compute.api.dialect import Dialect, parsed_uuid, quickstart_id
from compute.api.links import RequestLinks
from compute.api.monitoring.times import duration_ms
from compute.api.tasks.presenter import present_canonical, quickstart_status
from compute.db.tables import Task, TaskEvent
from compute.schemas.enums import EventType, TaskStatus, TaskType
from compute.schemas.events import InferenceStatusEvent
from compute.schemas.monitoring.tasks import (
    MediaItem,
    QuickstartTaskDetail,
    QuickstartTaskMedia,
    TaskDetailResponse,
    TaskMediaResponse,
)
from compute.schemas.tasks import TaskPublic
from compute.storage.readable import is_hidden
from compute.tasks.leases import FALLBACK
from compute.tasks.results import artifacts_of, first_path, is_video
from compute.tasks.states import TERMINAL

__all__ = ["events_of", "present_detail", "present_media"]

_MOST_EVENTS = 500
_FROM_ROW = shown_columns(TaskDetailResponse, Task, but=("config", "errors"))
_NAMES_FILE = re.compile(r"(?P<name>.+)_paths?|path")
_IMAGE = re.compile(r".+\.(?:png|jpe?g|webp|gif|bmp|tiff?|avif)", re.IGNORECASE)
_VIDEO = re.compile(r".+\.(?:mp4|webm|mov)", re.IGNORECASE)


async def events_of(session: AsyncSession, task_id: UUID) -> Sequence[TaskEvent]:
    """What happened to a task, in order; of very many the first."""
    rows = await session.scalars(
        select(TaskEvent).where(TaskEvent.task_id == task_id).order_by(TaskEvent.id).limit(_MOST_EVENTS)
    )
    return rows.all()


async def present_detail(
    task: Task, events: Sequence[TaskEvent], paid: dict[str, Any], dialect: Dialect, links: RequestLinks
) -> TaskDetailResponse | QuickstartTaskDetail:
    """A task with everything; `paid` are the fields that say what it has used."""
    public = await present_canonical(task, links, paid)
    own = public.model_dump(mode="json", exclude=set(TaskPublic.model_fields))
    resumed = list(_resumed(events))
    fields: dict[str, Any] = {name: getattr(task, name) for name in _FROM_ROW} | {
        "queue_name": task.queue,
        "config": public.config,
        "errors": public.errors,
        "duration_ms": duration_ms(task.started_at, task.completed_at),
        "is_resumed": bool(resumed),
        "resume_attempt_count": len(resumed),
        "last_resume_attempt": resumed[-1] if resumed else None,
        "service_requests": public.service_requests,
        "task_data": own,
    }
    if dialect is Dialect.CANONICAL:
        return TaskDetailResponse(**fields, events=[_event(task, event) for event in events])
    return QuickstartTaskDetail(
        **fields
        | {
            "id": quickstart_id(task.id),
            "task_type": task.task_type.lower(),
            "status": quickstart_status(TaskStatus(task.status)),
            "progress": round(task.progress / 100, 4),
        }
    )


def _resumed(events: Sequence[TaskEvent]) -> Iterator[datetime]:
    """When a task was claimed again after one of its runs had begun."""
    begun = False
    for event in events:
        if event.type == EventType.TASK_STATUS and event.status == TaskStatus.QUEUED and begun:
            yield event.created_at
        begun = begun or event.status == TaskStatus.EXECUTING


def _event(task: Task, event: TaskEvent) -> InferenceStatusEvent:
    ends = event.type == EventType.TASK_STATUS and event.status in TERMINAL
    path = first_path(task) if ends and event.status == TaskStatus.COMPLETED else None
    config = task.config or {}
    labels = {name: value for name in ("prompt_id", "entity_id") if isinstance(value := config.get(name), str)}
    ids = {name: _uuid(config.get(name)) for name in ("backend_generation_id", "backend_prediction_id")}
    return InferenceStatusEvent(
        event_type=EventType(event.type),
        task_id=task.id,
        status=event.status,
        origin_instance=task.origin_instance,
        origin_zone=task.origin_zone,
        timestamp=event.created_at,
        metadata=(event.data or {}).get("metadata"),
        result_image_path=path,
        refined_image_path=path if task.task_type == TaskType.REFINE else None,
        completed_at=task.completed_at if ends else None,
        error_message=task.errors[-1] if ends and event.status == TaskStatus.FAILED and task.errors else None,
        **labels,
        **ids,
    )


def _uuid(value: Any) -> UUID | None:
    return parsed_uuid(value) if isinstance(value, str) else None


async def present_media(task: Task, dialect: Dialect, links: RequestLinks) -> TaskMediaResponse | QuickstartTaskMedia:
    """The images and clips that a task was given, and those that came out."""
    kept = task.deleted_at is None
    inputs = [await _item(name, path, links) for name, path in _inputs(task.spec)] if kept else []
    outputs = [await _item(name, path, links) for name, path in _outputs(task)] if kept else []
    if dialect is Dialect.CANONICAL:
        return TaskMediaResponse(task_id=task.id, inputs=inputs, outputs=outputs)
    return QuickstartTaskMedia(task_id=quickstart_id(task.id), inputs=inputs, outputs=outputs)


def _inputs(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The names and paths of stored images and clips that a `spec` names, each path once."""
    seen: set[str] = set()
    # What a fallback would have used was not.
    used = {name: value for name, value in spec.items() if name != FALLBACK}
    for name, path in _paths(used, ""):
        if path not in seen and _media_type(path) is not None and not is_hidden(path):
            seen.add(path)
            yield name, path


def _paths(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        within = value["field"] if isinstance(value.get("field"), str) else name
        for key, part in value.items():
            if isinstance(part, str) and (found := _NAMES_FILE.fullmatch(key)):
                yield found["name"] or within, part
            elif isinstance(part, dict | list):
                yield from _paths(part, key)
    elif isinstance(value, list):
        stem = found["name"] or name if (found := _NAMES_FILE.fullmatch(name)) else name
        for index, part in enumerate(value):
            if isinstance(part, str) and found:
                yield f"{stem}[{index}]", part
            elif isinstance(part, dict | list):
                yield from _paths(part, f"{stem}[{index}]")


def _outputs(task: Task) -> Iterator[tuple[str, str]]:
    artifacts = artifacts_of(task)
    for index, artifact in enumerate(artifacts):
        name = "result_video" if is_video(artifact) else "result_image"
        yield name if len(artifacts) == 1 else f"{name}[{index}]", artifact["path"]


def _media_type(path: str) -> Literal["image", "video"] | None:
    return "image" if _IMAGE.fullmatch(path) else "video" if _VIDEO.fullmatch(path) else None


async def _item(name: str, path: str, links: RequestLinks) -> MediaItem:
    return MediaItem(name=name, path=path, url=await links.to(path), media_type=_media_type(path) or "image")
