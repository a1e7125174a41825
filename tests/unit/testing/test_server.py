"""Outcomes, refusals, progress and webhooks of the server for tests, as a program of a user sees them."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from compute.client import (
    Compute,
    EndedBadly,
    InternalError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    RetryPolicy,
    UnauthorizedError,
    verify_webhook,
)
from compute.testing import Completes, ComputeServer, Fails, Hangs, Refusal
from tests.patience import PATIENCE
from tests.servers import Quiet, answering

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
    task = client.tasks.submit("LLM_INTERACTION", prompt="Which colour?")
    # Behind its first move everything comes from the log, however late this stream begins.
    events = list(client.tasks.events(task, after="1-0-0-0"))
    assert "".join(event.text for event in events) == "Red, I think."
    assert events[-1].task is not None
    assert events[-1].task.result_text == "Red, I think."
    progress = [event.progress for event in events if event.name == "progress"]
    assert progress == sorted(progress)
    assert len(progress) == 4


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

    class Receiver(Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.rfile.read(int(self.headers["Content-Length"])), dict(self.headers)))
            self.send_response(204)
            self.end_headers()
            came.set()

    with answering(Receiver) as url:
        task = client.tasks.submit(prompt="a hat", webhook_url=f"{url}/hook")
        assert came.wait(PATIENCE)
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


@pytest.mark.parametrize("field", ["width", "height", "num_outputs", "seed"])
@pytest.mark.parametrize("value", [-1, 10**30, 1.5, True, "64", []])
def test_what_no_image_can_be_made_of_is_refused(client: Compute, field: str, value: object) -> None:
    with pytest.raises(InvalidInputError) as refused:
        client.tasks.submit("GENERATION", {"prompt": "a hat", field: value})
    assert [fault.field for fault in refused.value.faults] == [field]


def test_an_outcome_that_cannot_be_is_refused_when_it_is_made() -> None:
    for make in (
        lambda: Fails("no memory", category="OUT_OF_MEM"),
        lambda: Fails("no memory", seconds=-1),
        lambda: Completes(steps=-1),
        lambda: Completes(seconds=float("inf")),
        lambda: Completes(seconds=float("nan")),
    ):
        with pytest.raises(ValueError, match="`"):
            make()


def test_a_fault_of_the_server_is_told_and_ends_nothing_else() -> None:
    server = ComputeServer().start()
    with Compute(server.url, server.key, retry=QUICK) as client:
        # The event of the webhook cannot be made of this reference.
        odd = {"prompt": "a hat", "webhook_url": "http://127.0.0.1:9/", "origin_reference": 7}
        assert client.tasks.run("GENERATION", odd, wait_timeout=PATIENCE).ended
        server.outcomes.append("no outcome")  # type: ignore[arg-type]
        with pytest.raises(InternalError, match="testing server"):
            client.request("POST", "/tasks/", body={"prompt": "a hat"}, idempotency_key="")
        assert client.tasks.run(prompt="a hat", wait_timeout=PATIENCE).ended
    with pytest.raises(RuntimeError, match="at fault") as told:
        server.stop()
    assert told.value.__cause__ is not None
    server.stop()


@pytest.mark.parametrize("address", ["http://127.0.0.1:99999999/", "http://[", "http://127.0.0.1:9/ä b\n", "nowhere"])
def test_a_webhook_to_no_address_stops_no_other(server: ComputeServer, client: Compute, address: str) -> None:
    for _ in range(2):
        assert client.tasks.run("GENERATION", {"prompt": "a hat", "webhook_url": address}).ended
    server.stop()
    assert [status for _, status in server.deliveries] == [None, None]


def test_a_request_that_reads_is_refused_like_any_other(server: ComputeServer, client: Compute, tmp_path) -> None:
    task = client.tasks.run(prompt="a hat")
    server.store("refs/dress.png", b"an image")
    for act in (
        lambda: client.tasks.get(task),
        lambda: list(client.tasks.events(task)),
        lambda: client.files.download("refs/dress.png", tmp_path / "dress.png"),
        lambda: client.files.exists("refs/dress.png"),
    ):
        server.refusals.append(Refusal(404, "NOT_FOUND", "Gone.", carried_out=True))
        assert not refused(act)
        server.refusals.append(Refusal(cut=True, carried_out=True))
        assert act()
        assert not server.refusals


def refused(act: Callable[[], object]) -> object:
    """What a call returns; None if it is refused."""
    try:
        return act()
    except NotFoundError:
        return None
