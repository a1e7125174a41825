"""The work of a newcomer and of a backend engineer, through HTTP alone."""

import io
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from PIL import Image
from standardwebhooks import Webhook

from tests.acceptance.conftest import Stack
from tests.patience import PATIENCE

SMALL = {"width": 64, "height": 64, "steps": 2}


class _Receiver(BaseHTTPRequestHandler):
    """Serves one picture and keeps what is posted to it."""

    received: list[tuple[dict[str, str], bytes]]
    picture: bytes

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.end_headers()
        self.wfile.write(self.picture)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((dict(self.headers.items()), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet: the tests read `received` instead."""


@contextmanager
def neighbour() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A server of the caller's own: its address, and what was posted to it."""
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((200, 300)).convert("RGB").save(buffer, "JPEG")
    handler = type("Receiver", (_Receiver,), {"received": [], "picture": buffer.getvalue()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


def finish(client: httpx.Client, task_id: str, seconds: float = PATIENCE) -> dict[str, Any]:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        task: dict[str, Any] = client.get(f"/api/v1/tasks/{task_id}").json()
        if task["status"].lower() in {"completed", "failed", "cancelled"}:
            return task
        time.sleep(0.1)
    raise TimeoutError(task_id)


def until_received(received: list[tuple[dict[str, str], bytes]], count: int) -> None:
    give_up = time.monotonic() + PATIENCE
    while len(received) < count:
        assert time.monotonic() < give_up, received
        time.sleep(0.1)


def test_the_quick_start_from_submission_to_files(client: httpx.Client) -> None:
    with neighbour() as (address, _):
        created = client.post(
            "/api/v1/tasks/generation",
            json={
                "input_image_url": f"{address}/dress.jpg",
                "prompt": "fashion model, studio lighting, white background",
                "negative_prompt": "blurry, distorted",
                "num_outputs": 4,
                "guidance_scale": 7.5,
                **SMALL,
            },
        ).json()
    assert re.fullmatch(r"task_[0-9a-f]{32}", created["id"])
    task = finish(client, created["id"])
    assert (task["status"], task["progress"], task.get("error")) == ("completed", 1.0, None)
    images = task["output"]["images"]
    assert [image["seed"] - images[0]["seed"] for image in images] == [0, 1, 2, 3]
    pictures = [httpx.get(image["url"], timeout=PATIENCE) for image in images]
    assert all(answer.status_code == 200 for answer in pictures)
    assert len({answer.content for answer in pictures}) == 4


def test_a_webhook_arrives_once_and_is_signed(stack: Stack, client: httpx.Client) -> None:
    with neighbour() as (address, received):
        body = {"prompt": "a hat", "webhook_url": f"{address}/hook", "origin_reference": "order-7", **SMALL}
        created = client.post("/api/v1/tasks/", json={"task_type": "GENERATION", **body}).json()
        assert finish(client, created["id"])["status"] == "COMPLETED"
        until_received(received, 1)
        # That of a later task comes after a second one of this would have.
        later = client.post("/api/v1/tasks/", json={"task_type": "GENERATION", **body}).json()
        until_received(received, 2)
    (headers, sent), (_, second) = received
    assert json.loads(second)["task_id"] == later["id"]
    secret = (stack.home / "webhook_secret").read_text().strip()
    lowered = {name.lower(): value for name, value in headers.items()}
    payload = Webhook(secret).verify(sent, lowered)
    assert (payload["task_id"], payload["status"]) == (created["id"], "COMPLETED")
    assert payload["origin_reference"] == "order-7"
    assert payload["result_image_path"].startswith("generations/")


def test_progress_streams_while_the_task_runs(client: httpx.Client) -> None:
    # Larger than at the model's own size, and more of it than anybody waits for: it is cancelled while it runs.
    body = {"prompt": "a coat", "width": 512, "height": 512, "native": False, "steps": 100, "num_outputs": 4}
    path = f"/api/v1/tasks/{client.post('/api/v1/tasks/generation', json=body).json()['id']}"
    names = []
    for name in events_of(client, path):
        names.append(name)
        if name == "progress" and names.count(name) == 3:
            assert client.get(path).json()["status"] == "running", "they came as they happened, not all at the end"
            assert client.post(f"{path}/cancel").status_code == 200
    assert names[-1] == "cancelled"


def test_an_event_stream_ends_with_its_task(client: httpx.Client) -> None:
    created = client.post("/api/v1/tasks/generation", json={"prompt": "a coat", **SMALL}).json()
    assert [*events_of(client, f"/api/v1/tasks/{created['id']}")][-1] == "completed"


def events_of(client: httpx.Client, path: str) -> Iterator[str]:
    """The names of a task's events, as they come."""
    with client.stream("GET", f"{path}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                yield line.removeprefix("event: ")


def test_bodies_up_to_the_limit_pass_and_larger_ones_are_refused(client: httpx.Client) -> None:
    for size, status in ((40 * 2**20, 422), (60 * 2**20, 413)):
        content = b'{"prompt": "' + b"x" * size + b'"}'
        answer = client.post("/api/v1/tasks/", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == status, answer.text[:200]


def test_a_wrong_key_is_refused_and_the_document_is_public(stack: Stack) -> None:
    assert httpx.post(f"{stack.url}/api/v1/tasks/", json={"prompt": "x"}, timeout=PATIENCE).status_code == 401
    document = httpx.get(f"{stack.url}/openapi.json", timeout=PATIENCE).json()
    assert {"CreateGenerationTask", "GenerationTaskPublic"} <= document["components"]["schemas"].keys()
    assert httpx.get(f"{stack.url}/docs", timeout=PATIENCE).status_code == 200


def test_idempotent_submits_through_the_proxy_make_one_task(client: httpx.Client) -> None:
    body = {"prompt": "a scarf", "origin_instance": "idempotency", **SMALL}
    answers = [client.post("/api/v1/tasks/", json=body, headers={"Idempotency-Key": "scarf-1"}) for _ in range(3)]
    assert len({answer.text for answer in answers}) == 1
    listed = client.get("/api/v1/tasks/", params={"origin_instance": "idempotency"}).json()
    assert len(listed) == 1
