"""Clients and a webhook receiver that note what they see of a real cluster, for the checker of histories."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import httpx

from tests.cluster.conftest import Cluster, until
from tests.patience import PATIENCE
from tests.proof.history import Accepted, Cancelled, History, Published, Received, Seen
from tests.proof.model import ENDS

__all__ = ["Witness", "witnessing"]


class Witness:
    """Asks as a patient client does: again with the same key when a process died over its request."""

    def __init__(self, cluster: Cluster, history: History, hook: str) -> None:
        self.history = history
        self._cluster = cluster
        self._hook = hook
        self._tasks: list[str] = []

    def submit(self, **body: Any) -> str:
        """A task that was accepted."""
        key = {"Idempotency-Key": uuid4().hex}
        sent = {"prompt": "a red dress", "width": 64, "height": 64, "steps": 2, "webhook_url": self._hook, **body}
        answer = self._ask("POST", "/tasks/", json=sent, headers=key)
        assert answer.status_code == 201, answer.text
        task_id: str = answer.json()["id"]
        self._tasks.append(task_id)
        self.history.note(Accepted(at=time.monotonic(), task=task_id, webhook=True))
        return task_id

    def begin(self, **body: Any) -> str:
        """The same for a task that has made some progress by now."""
        task_id = self.submit(**body)
        until(lambda: self.look(task_id)["progress"] > 5, "progress")
        return task_id

    def cancel(self, task_id: str) -> None:
        answer = self._ask("POST", f"/tasks/{task_id}/cancel")
        if answer.status_code == 200:
            self.history.note(Cancelled(at=time.monotonic(), task=task_id))

    def look(self, task_id: str) -> dict[str, Any]:
        asked = time.monotonic()
        task: dict[str, Any] = self._ask("GET", f"/tasks/{task_id}").json()
        outputs = tuple(one["path"] for one in (task.get("metadata") or {}).get("outputs", []))
        self.history.note(
            Seen(
                at=time.monotonic(),
                asked=asked,
                task=task_id,
                status=task["status"],
                progress=task["progress"],
                retries=task["retry_count"],
                attempt=(task["retry_count"], task["executor_instance"]),
                outputs=outputs,
            )
        )
        return task

    def until_all_is_said(self) -> None:
        """Until each task has ended and its receiver knows."""

        def said() -> bool:
            ended = [self.look(task_id)["status"] in ENDS for task_id in self._tasks]
            told = {fact.task for fact in self.history.facts if isinstance(fact, Received)}
            return all(ended) and told >= set(self._tasks)

        until(said, "end of every task")
        for task_id in self._tasks:
            self.look(task_id)
            self._note_files(task_id)
        self.history.complete = True

    def _note_files(self, task_id: str) -> None:
        for file in (self._cluster.home / "storage" / "generations" / task_id).glob("*/*"):
            path = file.relative_to(self._cluster.home / "storage").as_posix()
            self.history.note(Published(at=0.0, task=task_id, fence=int(file.parent.name), path=path))

    def _ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        def answered() -> httpx.Response | None:
            try:
                answer = self._cluster.client.request(method, path, **given)
            except httpx.TransportError:
                return None
            return answer if answer.status_code < 500 else None

        return until(answered, f"answer to {method} {path}")


@contextmanager
def witnessing(cluster: Cluster) -> Iterator[Witness]:
    """Fails in the end if what was seen contradicts a promise."""
    history = History(grace=PATIENCE)

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["content-length"])))
            message = self.headers["webhook-id"]
            history.note(Received(at=time.monotonic(), task=told["task_id"], message=message, status=told["status"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Witness(cluster, history, f"http://127.0.0.1:{server.server_address[1]}/hook")
        server.shutdown()
    assert history.faults() == []
