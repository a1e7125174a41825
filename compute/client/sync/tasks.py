# Made of compute/client/aio by `python -m tools.unasync`: change it there.
"""Tasks: submit, follow, wait, fetch results."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from compute.client.common.calls import Call, body_of, id_of, post, query, reading, with_json
from compute.client.common.reading import ENDS, event_of, is_ended, raise_if_bad, reader, task_of, tasks_of
from compute.client.errors import WaitTimeout
from compute.client.events import Event
from compute.client.sync.files import Files
from compute.client.sync.pages import Pages
from compute.client.sync.polling import LAST_LOOK
from compute.client.sync.streams import follow
from compute.client.sync.transport import Transport
from compute.client.sync.typed import TypedTasks

if TYPE_CHECKING:
    from compute.client.models import Task
    from compute.schemas.storage import TaskCleanup

__all__ = ["Tasks"]

TaskId = Any
"""A task, or its id in either spelling."""
_cleaned = reader("storage", "TaskCleanup")


class Tasks(TypedTasks):
    """Tasks of every type."""

    def __init__(self, transport: Transport, files: Files) -> None:
        self._transport = transport
        self._files = files

    def _submit(self, task_type: str = "GENERATION", body: Any = None, /, **fields: Any) -> Task:
        key, timeout = fields.pop("idempotency_key", None), fields.pop("timeout", None)
        given = {"task_type": task_type} | (body_of(body) if body is not None else {}) | fields
        call = post("/tasks/", given, key=key, timeout=timeout)
        return task_of(self._transport.json(call))

    def submit_all(
        self, tasks: Iterable[Any], *, idempotency_key: str | None = None, timeout: float | None = None
    ) -> builtins.list[Task]:
        """Have many things done: all are accepted, or none. Each is a body with a `task_type`; the answer has their
        order."""
        body = {"tasks": [body_of(task) for task in tasks]}
        return tasks_of(self._transport.json(post("/tasks/bulk", body, key=idempotency_key, timeout=timeout)))

    def _run(self, task_type: str = "GENERATION", body: Any = None, /, **fields: Any) -> Task:
        timeout, on_event = fields.pop("wait_timeout", None), fields.pop("on_event", None)
        task = self._submit(task_type, body, **fields)
        return self.wait(task, timeout=timeout, on_event=on_event)

    def get(self, task: TaskId) -> Task:
        """Return a task as it is now."""
        return task_of(self._transport.json(reading(_path(task))))

    def list(
        self,
        *,
        status: str | None = None,
        task_type: str | None = None,
        origin_instance: str | None = None,
        origin_zone: str | None = None,
        origin_tenant_id: str | None = None,
        page_size: int | None = None,
        **more: Any,
    ) -> Pages[Task]:
        """Tasks, newest first, fetched as they are walked."""
        params = {
            "status": status,
            "task_type": task_type,
            "origin_instance": origin_instance,
            "origin_zone": origin_zone,
            "origin_tenant_id": origin_tenant_id,
            "limit": page_size,
        }
        return Pages(self._transport, reading("/tasks/", params | more), None, task_of)

    def events(self, task: TaskId, *, after: str | None = None, timeout: float | None = None) -> Generator[Event]:
        """What happens to a task, until it has ended; the last event has the whole `task`.

        Every change of its status comes exactly once and in order, however often the connection breaks; progress is
        always the latest.

        Args:
            after: Begin behind the event with this id. None begins with the present state.
            timeout: Seconds for all of it; None waits without end.

        Example:
            for event in client.tasks.events(task):
                print(event.name, event.status, event.progress)
        """
        call = Call("GET", f"{_path(task)}/events")
        what = f"task {id_of(task, 'task_')}"
        messages = follow(self._transport, call, what, after=after, timeout=timeout, ends=ENDS)
        last: Event | None = None
        try:
            with closing(messages):
                for message in messages:
                    last = event_of(message)
                    yield last
        except WaitTimeout as error:
            error.last = last
            raise

    def wait(
        self,
        task: TaskId,
        *,
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        check: bool = True,
    ) -> Task:
        """Wait until a task has ended, and return it.

        Args:
            timeout: Seconds; None waits without end.
            on_event: Called with every event before the last.
            check: Raise EndedBadly unless it is COMPLETED.

        Raises:
            EndedBadly: it has FAILED or was CANCELLED.
            WaitTimeout: it has not ended in time. It goes on.
        """
        deadline = float("inf") if timeout is None else monotonic() + timeout
        ended: Task | None = None
        events = self.events(task, timeout=timeout)
        with closing(events):
            for event in events:
                ended = event.task
                if ended is None and on_event is not None:
                    on_event(event)
        # Of a task that had ended before, the stream says nothing more.
        left = min(self._transport.config.timeout, max(deadline - monotonic(), LAST_LOOK))
        found = ended or task_of(self._transport.json(reading(_path(task), timeout=left)))
        if check:
            raise_if_bad("task", found)
        return found

    def cancel(self, task: TaskId, *, idempotency_key: str | None = None) -> Task:
        """Cancel a task that has not ended. It is CANCELLED at once; a running one stops at its next step."""
        return task_of(self._transport.json(post(f"{_path(task)}/cancel", key=idempotency_key)))

    def update(self, task: TaskId, changes: Mapping[str, Any] | None = None, /, **fields: Any) -> Task:
        """Change a task: its priority while it waits, its status where the life of a task allows it."""
        call = with_json(Call("PUT", _path(task)), {**(changes or {}), **fields})
        return task_of(self._transport.json(call))

    def download(self, task: TaskId, to: str | Path = ".", *, timeout: float | None = None) -> builtins.list[Path]:
        """Write the results of a completed task into a folder, which is made if needed, and return the files.

        They are named after the task and their number. Length and SHA-256 are compared; nothing half is left behind.
        """
        found: Task = task if hasattr(task, "paths") and is_ended(task) else self.get(task)
        raise_if_bad("task", found)
        folder = Path(to)
        files = []
        for number, path in enumerate(found.paths):
            name = f"{id_of(found)}-{number}{Path(path).suffix}"
            file = self._files.download(path, folder / name, sha256=found.digest(path), timeout=timeout)
            files.append(file)
        return files

    def clean_up(self, task: TaskId, *, idempotency_key: str | None = None) -> TaskCleanup:
        """Remove the files of a task that has ended. The task itself stays, marked as deleted."""
        call = post(f"{_path(task)}/cleanup", key=idempotency_key)
        found: TaskCleanup = _cleaned(self._transport.json(call))
        return found

    def delete(self, task: TaskId) -> None:
        """Remove a task that has ended, with its files, for good."""
        self._transport.send(Call("DELETE", _path(task), query({}), done_by=frozenset({404})))


def _path(task: TaskId) -> str:
    return f"/tasks/{id_of(task, 'task_')}"
