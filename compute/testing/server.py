"""The server: starts and stops, and keeps what tests ask it for."""

import base64
import json
import secrets
import threading
from collections import deque
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Any

from compute.testing.handler import Handler
from compute.testing.outcomes import Outcome, Refusal
from compute.testing.shown import task_json, webhook_event
from compute.testing.tasks import FakeTask, TaskLife
from compute.testing.webhooks import WebhookPost

__all__ = ["ComputeServer"]


class ComputeServer:
    """A server on loopback that speaks the API.

    Attributes:
        outcomes: What becomes of the next tasks, the first first; then they complete.
        refusals: What the next requests get instead of an answer, the first first.
        key: The API key that it takes.
        webhook_secret: What it signs webhooks with: `verify_webhook(body, headers, server.webhook_secret)`.
        deliveries: Webhooks that it has sent, each with the status of the receiver; None where none answered.

    Example:
        with ComputeServer() as server, Compute(server.url, server.key) as client:
            server.outcomes.append(Fails("CUDA out of memory", category="OUT_OF_MEMORY"))
            client.tasks.run(prompt="a red dress")  # raises EndedBadly
    """

    def __init__(self, *, key: str | None = None) -> None:
        self.key = key or secrets.token_urlsafe(24)
        self.webhook_secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        self.outcomes: deque[Outcome] = deque()
        self.refusals: deque[Refusal] = deque()
        self.deliveries: list[tuple[dict[str, Any], int | None]] = []
        self.life = TaskLife(self.outcomes, self._ended)
        self.answers: dict[tuple[str, str, str], tuple[bytes, int, bytes]] = {}
        self.signer = secrets.token_hex(8)
        self._posts = WebhookPost(self.webhook_secret, self.deliveries)
        self._http: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Its address, while it runs."""
        if self._http is None:
            raise RuntimeError("the server does not run: use it in a `with` block, or call `start`")
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """All tasks as the API shows them, oldest first."""
        with self.life.changed:
            return [task_json(task, self.url, self.signer) for task in self.life.tasks.values()]

    def start(self) -> "ComputeServer":
        """Listen on a free port."""
        server = type("Bound", (Handler,), {"app": self})
        self._http = _Listener(("127.0.0.1", 0), server)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="compute-testing-http")
        self._thread.start()
        self._posts.start()
        self.life.start()
        return self

    def stop(self) -> None:
        """Stop, and close what is open.

        Raises:
            RuntimeError: the server itself was at fault; the cause says how.
        """
        self.life.stop()
        if self._http is not None and self._thread is not None:
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()
        self._posts.stop()
        if faults := self.life.faults:
            self.life.faults = []
            raise RuntimeError("the testing server itself was at fault") from faults[0]

    def __enter__(self) -> "ComputeServer":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def store(self, path: str, data: bytes) -> None:
        """Put a file into the store, such as an image that a test refers to."""
        with self.life.changed:
            self.life.files[path] = data

    def _ended(self, task: FakeTask) -> None:
        if url := task.asked.get("webhook_url"):
            self._posts.put(str(url), json.dumps(webhook_event(task)))


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    # Streams are told that the server stops; nobody else keeps a thread for long.
    block_on_close = False
    request_queue_size = 128
