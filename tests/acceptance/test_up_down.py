"""`compute up` and `compute down`, as an operator uses them."""

import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from tests.patience import PATIENCE
from tests.processes import runs

if TYPE_CHECKING:
    from tests.acceptance.conftest import Stack

NewStack = Callable[[], "Stack"]


def finished(client: httpx.Client, task: str, seconds: float = PATIENCE) -> dict[str, Any]:
    """The task, once it has ended."""
    deadline = time.monotonic() + seconds
    while True:
        found: dict[str, Any] = client.get(f"/api/v1/tasks/generation/{task}").raise_for_status().json()
        if found["status"] in {"completed", "failed", "cancelled"}:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def accepted(client: httpx.Client) -> str:
    """The id of a task, once the database can store one."""
    deadline = time.monotonic() + PATIENCE
    body = {"prompt": "a boat", "width": 64, "height": 64, "steps": 1}
    while (answer := client.post("/api/v1/tasks/generation", json=body)).status_code != 201:
        assert answer.status_code == 503, answer.text
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)
    created: str = answer.json()["id"]
    return created


def processes_of(stack: "Stack") -> set[psutil.Process]:
    """The supervisor and everything below it."""
    assert stack.process is not None
    supervisor = psutil.Process(stack.process.pid)
    return {supervisor, *supervisor.children(recursive=True)}


def alive(processes: set[psutil.Process]) -> set[psutil.Process]:
    return {process for process in processes if runs(process)}


def test_it_prints_what_the_operator_needs(stack: "Stack") -> None:
    printed = stack.output.read_text()
    assert stack.dashboard_url in printed
    assert str(stack.home / "api_key") in printed


def test_the_dashboard_wants_the_token_whose_place_was_printed(stack: "Stack") -> None:
    place = re.search(r"Ray token +in (.+)", stack.output.read_text())
    assert place
    token = Path(place[1]).read_text().strip()
    address = f"{stack.dashboard_url}/api/serve/applications/"
    assert httpx.get(address, timeout=PATIENCE).status_code == 401
    known = httpx.get(address, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE)
    assert known.status_code == 200
    assert known.json()["applications"]["compute"]["status"] == "RUNNING"


def test_status_says_that_it_is_ready(stack: "Stack") -> None:
    told = stack.compute("status")
    assert told.returncode == 0, told
    assert f"url: {stack.url}" in told.stdout
    assert "ready: yes" in told.stdout


def test_a_second_up_is_refused(stack: "Stack") -> None:
    second = stack.compute("up")
    assert second.returncode == 1
    assert re.fullmatch(rf"compute: already running at {re.escape(stack.url)} \(process \d+, .*\n", second.stderr)


@pytest.mark.parametrize("variable", ["COMPUTE_HTTP_PORT", "COMPUTE_DASHBOARD_PORT"])
def test_a_taken_port_is_one_line(new_stack: NewStack, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = new_stack().compute("up", **{variable: port})
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert re.fullmatch(rf"compute: port {port} on .* cannot be used: .*; free it, or set {variable}\n", refused.stderr)


def test_a_bad_setting_is_one_line(new_stack: NewStack) -> None:
    refused = new_stack().compute("up", COMPUTE_MAX_RETRIES="many")
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert re.fullmatch(r"compute: bad setting: COMPUTE_MAX_RETRIES: .*\n", refused.stderr)


def test_the_data_outlives_a_kill_and_a_neighbour_outlives_both(stack: "Stack", new_stack: NewStack) -> None:
    mine = new_stack()
    mine.up()
    key = mine.api_key
    with mine.client() as client:
        created = client.post(
            "/api/v1/tasks/generation", json={"prompt": "a boat", "width": 64, "height": 64, "steps": 1}
        )
        task = finished(client, created.raise_for_status().json()["id"])
    first_life = processes_of(mine)
    assert mine.end(signal.SIGKILL) == -signal.SIGKILL
    assert mine.compute("status").returncode == 3

    mine.up()
    assert mine.api_key == key
    with mine.client() as client:
        assert finished(client, task["id"])["status"] == task["status"] == "completed"
        picture = httpx.get(task["output"]["images"][0]["url"], timeout=PATIENCE)
        assert picture.headers["content-type"].startswith("image/")
    (database,) = [one for one in psutil.Process(mine.process.pid).children() if one.name().startswith("postgres")]
    database.kill()
    mine.wait_for("PostgreSQL has died, and is started again")
    with mine.client() as client:
        assert finished(client, accepted(client))["status"] == "completed"
    second_life = processes_of(mine)
    assert alive(first_life) == set()

    stopped = mine.compute("down")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
    assert mine.process is not None
    assert mine.process.wait(PATIENCE) == 0
    assert alive(second_life) == set()
    assert mine.compute("status").returncode == 3
    # It never was the neighbour's business.
    assert stack.compute("status").returncode == 0


def test_ctrl_c_stops_it_while_it_starts(new_stack: NewStack) -> None:
    hasty = new_stack()
    hasty.launch()
    hasty.wait_for("Starting Ray")
    deadline = time.monotonic() + PATIENCE
    while len(started := processes_of(hasty)) <= 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert hasty.end(signal.SIGINT) == 0
    assert alive(started) == set()
    assert "Traceback" not in hasty.output.read_text()
    assert hasty.output.read_text().rstrip().endswith("the data stays in COMPUTE_HOME")
