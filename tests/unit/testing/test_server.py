"""What tests of others can make the server do."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from compute.client import Compute, EndedBadly, OverloadedError, RetryPolicy, UnauthorizedError, verify_webhook
from compute.testing import Completes, ComputeServer, Fails, Hangs, Refusal
from tests.patience import PATIENCE

QUICK = RetryPolicy(tries=5, first_pause=0.001)


@pytest.fixture
def server() -> Iterator[ComputeServer]:
    with ComputeServer() as running:
        yield running


@pytest.fixture
def client(server: ComputeServer) -> Iterator[Compute]:
    with Compute(server.url, server.key, retry=QUICK) as opened:
        yield opened


def test_tasks_end_as_they_are_told_to(server: ComputeServer, client: Compute) -> None:
    server.outcomes += [Fails("CUDA out of memory", category="OUT_OF_MEMORY"), Completes(seconds=0, steps=0), Hangs()]
    with pytest.raises(EndedBadly, match="CUDA out of memory") as ended:
        client.tasks.run(prompt="a hat")
    assert ended.value.category == "OUT_OF_MEMORY"
    assert client.tasks.run(prompt="a hat").ended
    held = client.tasks.submit(prompt="a hat")
    assert next(iter(client.tasks.events(held))).status in ("PENDING", "QUEUED", "EXECUTING")
    assert client.tasks.cancel(held).status == "CANCELLED"
    assert [task["status"] for task in server.tasks] == ["FAILED", "COMPLETED", "CANCELLED"]


def test_progress_is_told_and_text_is_said(server: ComputeServer, client: Compute) -> None:
    server.outcomes.append(Completes(seconds=0.05, steps=4, text="Red, I think."))
    events = list(client.tasks.events(client.tasks.submit("LLM_INTERACTION", prompt="Which colour?")))
    assert "".join(event.text for event in events) == "Red, I think."
    assert events[-1].task is not None
    assert events[-1].task.result_text == "Red, I think."
    progress = [event.progress for event in events if event.name == "progress"]
    assert progress == sorted(progress)
    assert 3 <= len(progress) <= 4


def test_a_clip_is_a_file(client: Compute, tmp_path) -> None:
    task = client.tasks.run("VIDEO_GENERATION", prompt="a hat turns")
    assert [file.suffix for file in client.tasks.download(task, tmp_path)] == [".mp4"]


def test_requests_are_refused_as_often_as_they_are_told_to(server: ComputeServer, client: Compute) -> None:
    server.refusals += [Refusal(retry_after=0), Refusal(cut=True), Refusal(cut=True, carried_out=True), Refusal(502)]
    assert client.tasks.submit(prompt="a hat").id
    assert not server.refusals
    assert len(server.tasks) == 1
    server.refusals.append(Refusal(429, "RATE_LIMITED", "Slowly.", retry_after=3600))
    with pytest.raises(Exception, match="Slowly") as refused:
        client.tasks.submit(prompt="a hat")
    assert refused.value.retry_after == 3600
    server.refusals += [Refusal()] * QUICK.tries
    with pytest.raises(OverloadedError) as overloaded:
        client.tasks.submit(prompt="a hat")
    assert overloaded.value.tries == QUICK.tries


def test_another_key_is_refused(server: ComputeServer) -> None:
    with Compute(server.url, "another") as client, pytest.raises(UnauthorizedError):
        client.tasks.submit(prompt="a hat")


def test_webhooks_are_signed(server: ComputeServer, client: Compute) -> None:
    received: list[tuple[bytes, dict[str, str]]] = []
    came = threading.Event()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.rfile.read(int(self.headers["Content-Length"])), dict(self.headers)))
            self.send_response(204)
            self.end_headers()
            came.set()

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.05,))
        thread.start()
        task = client.tasks.submit(prompt="a hat", webhook_url=f"http://127.0.0.1:{receiver.server_port}/hook")
        assert came.wait(PATIENCE)
        receiver.shutdown()
        thread.join()
    body, headers = received[0]
    event = verify_webhook(body, headers, server.webhook_secret)
    assert (event["task_id"], event["status"]) == (str(task.id), "COMPLETED")
    server.stop()
    assert [(told["task_id"], status) for told, status in server.deliveries] == [(str(task.id), 204)]


def test_what_a_test_has_stored_is_there(server: ComputeServer, client: Compute) -> None:
    server.store("refs/dress.png", b"an image")
    assert client.files.exists("refs/dress.png")
    assert [file.path for file in client.files.list(prefix="refs/")] == ["refs/dress.png"]


def test_it_says_when_it_does_not_run() -> None:
    with pytest.raises(RuntimeError, match="with"):
        _ = ComputeServer().url
