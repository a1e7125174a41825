"""`compute top` in a real pseudo-terminal of 80 x 24, at a server that goes away and comes back."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from compute.stack.preflight import free_port
from tests.integration.cli.terminal import Terminal, terminal
from tests.servers import Quiet, answering

QUEUE = {"name": "inference", "depth": 7, "active_workers": 1, "active_tasks": 1, "reserved_tasks": 2}
WORKER = {"name": "Flux-3f2a@host1", "active_tasks": 1, "concurrency": 1, "utilization_pct": 100.0}
TASK = {
    "id": "01a230ea-9687-7935-ab76-c6ce6d875864",
    "task_type": "GENERATION",
    "status": "EXECUTING",
    "progress": 40.0,
}


class Monitored(Quiet, BaseHTTPRequestHandler):
    """A server with one queue, one worker and one task; `answers` are changed while it runs, a number is a status."""

    answers: dict[str, Any]

    def do_GET(self) -> None:
        path = self.path.removeprefix("/api/v1")
        body = next((answer for beginning, answer in self.answers.items() if path.startswith(beginning)), None)
        status = body if isinstance(body, int) else 200 if body is not None else 503
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(port: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    answers = {
        "/monitoring/queues": {"queues": [dict(QUEUE)]},
        "/monitoring/workers": {"workers": [WORKER]},
        "/monitoring/stats": {"total_tasks": 1234, "tasks_last_hour": 5, "by_status": {"COMPLETED": 3}},
        "/tasks/?status=EXECUTING": [TASK],
        "/tasks/?status=FAILED": [],
    }
    with answering(type("Answering", (Monitored,), {"answers": answers}), port=port) as url:
        yield int(url.rpartition(":")[2]), answers


def top(port: int) -> tuple[str, ...]:
    return ("top", "--interval", "0.2", "--url", f"http://127.0.0.1:{port}", "--key", "key-of-the-tests")


def test_it_is_live_and_survives_a_server_that_goes_away_and_comes_back() -> None:
    # A port that the kernel gives to nobody while the server is away.
    with serving(free_port()) as (port, answers):
        opened = Terminal(*top(port))
        try:
            frame = opened.until("inference")
            assert len(frame) <= 24
            assert max(map(len, frame)) <= 80
            for words in ("1,234 tasks", "waiting 7", "Flux-3f2a@host1", "…6d875864  GENERATION", "40 %"):
                assert any(words in line for line in frame), frame
            answers["/monitoring/queues"]["queues"][0]["depth"] = 4711
            opened.until("waiting 4,711")
        except BaseException:
            opened.close()
            raise
    try:
        gone = opened.until("away for")
        assert any("inference" in line for line in gone), "what was seen last stays"
        with serving(port):
            back = opened.until("waiting 7")
            assert not any("away for" in line for line in back)
            opened.press("q")
            assert opened.ended() == 0
    finally:
        opened.close()
    assert opened.output.count("\x1b[?1049h") == opened.output.count("\x1b[?1049l") == 1, "the screen is as it was"
    assert opened.output.rindex("\x1b[?25h") > opened.output.rindex("\x1b[?25l"), "and so is the cursor"


@pytest.mark.parametrize("how", ["key", "signal"])
def test_ctrl_c_leaves_the_terminal_as_it_was(how: str) -> None:
    with serving() as (port, _), terminal(*top(port)) as opened:
        opened.until("inference")
        if how == "key":
            opened.press("\x03")
        else:
            opened.process.send_signal(signal.SIGINT)
        assert opened.ended() in (0, 130)
    assert opened.output.count("\x1b[?1049l") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_that_ends_it_leaves_the_terminal_as_it_was(number: signal.Signals) -> None:
    with serving() as (port, answers), terminal(*top(port)) as opened:
        opened.until("inference")
        # It is not suspended with the terminal in its hands.
        opened.press("\x1a")
        answers["/monitoring/queues"]["queues"][0]["depth"] = 4711
        opened.until("waiting 4,711")
        opened.process.send_signal(number)
        assert opened.ended() == 128 + number
    assert opened.output.count("\x1b[?1049h") == opened.output.count("\x1b[?1049l") == 1
    assert opened.output.rindex("\x1b[?25h") > opened.output.rindex("\x1b[?25l")


ODD: list[tuple[str, Any]] = [
    ("/monitoring/queues", {"queues": [{"name": "inference", "depth": "many"}]}),
    ("/monitoring/workers", {"workers": [{"utilization_pct": "all"}]}),
    ("/monitoring/stats", {"total_tasks": "x", "by_status": []}),
    ("/monitoring/stats", []),
    ("/tasks/?status=EXECUTING", [{"id": "1", "progress": "half"}]),
]


def test_answers_that_are_not_understood_are_told_and_the_view_goes_on() -> None:
    with serving() as (port, answers), terminal(*top(port)) as opened:
        for path, odd in ODD:
            opened.until("…6d875864")
            sound, answers[path] = answers[path], odd
            assert any("inference" in line for line in opened.until("away for")), "what was seen last stays"
            answers[path] = sound
            opened.until_gone("away for")
        opened.press("\x1b[A")
        opened.press("q")
        assert opened.ended() == 0


def test_a_key_that_is_refused_ends_it() -> None:
    with serving() as (port, answers), terminal(*top(port)) as opened:
        opened.until("inference")
        answers["/monitoring/stats"] = 401
        assert opened.ended() == 6
        assert "refuses the key" in opened.output


def test_a_server_that_was_never_there_is_waited_for_on_the_screen() -> None:
    with terminal(*top(9)) as opened:
        opened.until("away for")
        opened.press("q")
        assert opened.ended() == 0


def test_once_prints_one_frame_or_one_value() -> None:
    with serving() as (port, _):
        command = [sys.executable, "-m", "compute.cli", *top(port), "--once"]
        told = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        assert "inference" in told.stdout
        assert "\x1b" not in told.stdout
        value = json.loads(subprocess.run([*command, "--json"], capture_output=True, check=True).stdout)  # noqa: S603
        assert value["queues"] == [QUEUE]
        assert [one["id"] for one in value["running"]] == [TASK["id"]]
    gone = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert (gone.returncode, gone.stdout) == (3, "")
