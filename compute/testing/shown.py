"""Tasks and files as the API shows them."""

import hashlib
import mimetypes
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from compute.schemas.enums import ErrorCategory, EventType, TaskStatus
from compute.schemas.events import TaskStatusEvent
from compute.testing.pictures import size_of
from compute.testing.tasks import ENDED, FakeTask, Move

__all__ = ["brief", "file_json", "link", "position", "task_json", "webhook_event"]

_REPEATED_NOT = frozenset({"task_type", "webhook_url"})
_COMMON = {
    "origin_zone": None,
    "origin_tenant_id": None,
    "origin_reference": None,
    "workflow_id": None,
    "step_id": None,
    "config": None,
    "executor_type": None,
    "executor_instance": None,
    "retry_count": 0,
    "metadata": None,
}


def task_json(task: FakeTask, url: str, signer: str) -> dict[str, Any]:
    """A task, canonical."""
    repeated = {name: value for name, value in task.asked.items() if name not in _REPEATED_NOT}
    shown = {
        **_COMMON,
        "id": str(task.id),
        "task_type": task.task_type,
        "priority": 1,
        "origin_instance": "default",
        "provider_type": "LOCAL",
        **repeated,
        "status": task.status,
        "progress": round(task.progress, 2),
        "created_at": _time(task.created),
        "updated_at": _time(task.completed or task.started or task.created),
        "started_at": _time(task.started),
        "completed_at": _time(task.completed),
        "errors": task.errors or None,
        "error_category": task.category,
        **task.result,
    }
    for name in ("result_image_path", "result_video_path"):
        if path := task.result.get(name):
            shown[name.replace("_path", "_url")] = link(path, url, signer)
    if paths := task.result.get("result_image_paths"):
        shown["result_image_urls"] = [link(path, url, signer) for path in paths]
    return shown


def link(path: str, url: str, signer: str) -> str:
    """A link that needs no key."""
    return f"{url}/api/v1/storage/images/{quote(path)}?expires=9999999999&signature={signer}"


def file_json(path: str, data: bytes, url: str, signer: str) -> dict[str, Any]:
    """A stored file."""
    width, height = size_of(data) or (None, None)
    return {
        "path": path,
        "url": link(path, url, signer),
        "size": len(data),
        "content_type": mimetypes.guess_type(path)[0] or "application/octet-stream",
        "modified": _time(datetime.now(UTC)),
        "width": width,
        "height": height,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def brief(task: FakeTask, move: Move, status: str) -> dict[str, Any]:
    """The data of an event that is not the last."""
    return {"id": str(task.id), "status": status, "progress": round(move.progress, 2)}


def position(move: int, characters: int, percent: float) -> str:
    """The id of an event, in the server's own form."""
    return f"{move}-{1 if characters else 0}-{characters}-{round(percent * 100)}"


def webhook_event(task: FakeTask) -> dict[str, Any]:
    """What a webhook says of a task that has ended."""
    assert task.status in ENDED  # noqa: S101 - it is called at the end alone
    event = TaskStatusEvent(
        event_type=EventType.TASK_STATUS,
        task_id=task.id,
        timestamp=datetime.now(UTC),
        status=TaskStatus(task.status),
        task_type=task.task_type,
        progress=task.progress,
        started_at=task.started,
        completed_at=task.completed,
        error_category=None if task.category is None else ErrorCategory(task.category),
        error_message=task.errors[-1] if task.errors else None,
        result_image_path=task.result.get("result_image_path") or task.result.get("result_video_path"),
        outputs=(task.result.get("metadata") or {}).get("outputs"),
        origin_reference=task.asked.get("origin_reference"),
    )
    return event.model_dump(mode="json")


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")
