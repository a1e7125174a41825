"""Ctrl-C and closed pipes, at the testing server."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest

from compute.testing import ComputeServer, Hangs, Refusal
from tests.integration.cli.terminal import Terminal, terminal
from tests.patience import PATIENCE
from tests.servers import Quiet, answering


@pytest.fixture
def remote() -> Iterator[ComputeServer]:
    with ComputeServer() as server:
        yield server


COMMANDS = (("generate", "a hat"), ("edit", "uploads/a.png", "a hat"))


def environment(remote: ComputeServer, home: Path) -> dict[str, str]:
    return {"COMPUTE_URL": remote.url, "API_KEY": remote.key, "COMPUTE_HOME": str(home)}


def stopped(opened: Terminal) -> str:
    """What the terminal shows of a command that was interrupted."""
    opened.press("\x03")
    assert opened.ended() == 130
    return opened.output


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_ctrl_c_cancels_the_task(remote: ComputeServer, tmp_path: Path, words: tuple[str, ...]) -> None:
    remote.outcomes.append(Hangs())
    with terminal(*words, "--out", str(tmp_path / "out"), **environment(remote, tmp_path)) as opened:
        opened.hears("EXECUTING")
        assert "is cancelled" in stopped(opened)
    assert [task["status"] for task in remote.tasks] == ["CANCELLED"]


KEPT = ("Authorization", "Idempotency-Key", "Content-Type")
SLOW: dict[str, tuple[str, ...]] = {
    "generate": ("generate", "a hat"),
    "edit": ("edit", "uploads/a.png", "a hat"),
    "task submit": ("task", "submit", "GENERATION", "-s", "prompt=a hat"),
    "task submit --no-wait": ("task", "submit", "GENERATION", "-s", "prompt=a hat", "--no-wait"),
}


@pytest.mark.parametrize("name", SLOW)
def test_ctrl_c_before_the_answer_leaves_no_task_unnamed(remote: ComputeServer, tmp_path: Path, name: str) -> None:
    remote.outcomes.append(Hangs())
    reached = threading.Event()
    with answering(late(remote, reached)) as url:
        given = environment(remote, tmp_path) | {"COMPUTE_URL": url}
        out = () if "--no-wait" in SLOW[name] else ("--out", str(tmp_path / "out"))
        with terminal(*SLOW[name], *out, **given) as opened:
            assert reached.wait(PATIENCE)
            said = " ".join(stopped(opened).split())
    (task,) = remote.tasks
    assert task["id"] in said.replace(" ", "")
    assert task["status"] == ("EXECUTING" if name.startswith("task") else "CANCELLED")


def late(remote: ComputeServer, reached: threading.Event) -> type[BaseHTTPRequestHandler]:
    """A way to the server on which the first answer to a submit is never told."""

    class Late(Quiet, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            sent = {name: value for name in KEPT if (value := self.headers.get(name))}
            address = f"{remote.url}{self.path}"
            with httpx.Client(timeout=PATIENCE, trust_env=False) as to:
                answer = to.request(self.command, address, content=body, headers=sent)
            if self.path.endswith("/tasks/") and not reached.is_set():
                reached.set()
                self.rfile.read()  # until the client goes
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["content-type"])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_POST = do_GET  # noqa: N815

    return Late


@pytest.mark.parametrize(
    ("refusal", "said"),
    [(Refusal(409, "CONFLICT", "It has ended."), "had ended"), (Refusal(403, "FORBIDDEN", "No."), "goes on, for it")],
    ids=["ended", "refused"],
)
def test_ctrl_c_is_130_whatever_becomes_of_the_cancel(
    remote: ComputeServer, tmp_path: Path, refusal: Refusal, said: str
) -> None:
    remote.outcomes.append(Hangs())
    with terminal("generate", "a hat", "--out", str(tmp_path / "a.png"), **environment(remote, tmp_path)) as opened:
        opened.hears("EXECUTING")
        remote.refusals.append(refusal)
        assert said in " ".join(stopped(opened).split())


def test_a_reader_that_has_seen_enough_breaks_nothing(remote: ComputeServer, tmp_path: Path) -> None:
    lines = '{"task_type": "GENERATION", "prompt": "a hat"}\n' * 1500
    process = subprocess.Popen(
        [sys.executable, "-m", "compute.cli", "bulk", "-", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | environment(remote, tmp_path),
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(lines.encode())
        process.stdin.close()
        first = process.stdout.readline().decode()
        assert remote.tasks[0]["id"] in first
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait() == 1
