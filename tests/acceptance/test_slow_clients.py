"""Clients that hold connections and say little are cut off, while others are served and event streams live."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from tests.acceptance.slow_clients import SlowClients
from tests.patience import PATIENCE

if TYPE_CHECKING:
    from tests.acceptance.conftest import Stack

EACH = 30
LONG = {"prompt": "a boat", "width": 512, "height": 512, "steps": 100, "native": False}
AHEAD = 12


class Follower:
    """Reads an event stream to its end."""

    def __init__(self, client: httpx.Client, task: str) -> None:
        self.lines: list[str] = []
        self.ended = threading.Event()
        self._client = client
        self._task = task
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        try:
            with self._client.stream("GET", f"/api/v1/tasks/{self._task}/events", timeout=None) as stream:
                self.lines += (line for line in stream.iter_lines() if line)
        finally:
            self.ended.set()

    def join(self) -> None:
        self._reading.join(PATIENCE)
        assert self.ended.is_set()


@contextmanager
def waiting_task(client: httpx.Client, ahead: int = AHEAD) -> Iterator[str]:
    """A task behind others that take long; all of them are cancelled in the end."""
    tasks = [
        client.post("/api/v1/tasks/generation", json=LONG).raise_for_status().json()["id"] for _ in range(ahead + 1)
    ]
    try:
        yield tasks[-1]
    finally:
        for task in reversed(tasks):
            client.post(f"/api/v1/tasks/{task}/cancel")


@pytest.fixture
def front_door(stack: "Stack") -> psutil.Process:
    assert stack.process is not None
    children = psutil.Process(stack.process.pid).children(recursive=True)
    [found] = [
        child
        for child in children
        if child.name() == "haproxy" and any(c.laddr.port == stack.http_port for c in child.net_connections("tcp"))
    ]
    return found


def test_slow_clients_are_cut_off_and_an_event_stream_is_not(stack: "Stack", front_door: psutil.Process) -> None:
    deadline = time.monotonic() + PATIENCE
    with stack.client() as client, stack.client() as streaming, waiting_task(client) as task:
        follower = Follower(streaming, task)
        with SlowClients(stack.http_port, stack.api_key, EACH) as slow:
            while waiting := slow.never_held(front_door):
                assert time.monotonic() < deadline, waiting
                time.sleep(0.1)
            while held := slow.held(front_door):
                assert time.monotonic() < deadline, held
                # Others are served meanwhile.
                assert client.get("/health").status_code == 200
                time.sleep(1)
        assert not follower.ended.is_set()
        assert client.post(f"/api/v1/tasks/{task}/cancel").is_success
        follower.join()
    # It had nothing to tell for as long as the slow ones were given, and told the end.
    assert follower.lines.count(": waiting") >= 2
    assert follower.lines[-2] == "event: cancelled"
