"""Clients that are used in a process that was forked or after they were closed; and servers
whose proxy knows them no more."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from compute.client import (
    ClosedError,
    Compute,
    NotFoundError,
    RetryPolicy,
    UnavailableError,
)
from compute.testing import ComputeServer
from tests.servers import Answer, by_path

QUICK = RetryPolicy(tries=3, first_pause=0.001)
GONE: Answer = (404, {"Content-Type": "text/plain"}, b"Path '/x' not found. Ping /-/routes for available routes.")
MISSING: Answer = (404, {"Content-Type": "application/json"}, b'{"detail": "No.", "code": "NOT_FOUND"}')
TASK = "/api/v1/tasks/7"


def in_a_child(act: Callable[[], object]) -> str:
    """What a function returns in a process that is forked for it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            said = str(act())
        except BaseException as error:
            said = repr(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said_there:
        said = said_there.read()
    os.waitpid(child, 0)
    return said


def test_a_process_that_was_forked_has_connections_of_its_own() -> None:
    with ComputeServer() as server, Compute(server.url, server.key, retry=QUICK) as client:
        task = client.tasks.run(prompt="a hat")
        before = client._transport
        kept = before._http
        assert in_a_child(lambda: (client.tasks.get(task).id, before._http is kept)) == f"({task.id!r}, False)"
        assert client.tasks.get(task).id == task.id
        assert before._http is kept


def test_a_client_that_was_closed_says_so() -> None:
    client = Compute("http://127.0.0.1:9", "secret")
    client.close()
    acts: list[Callable[[], Any]] = [lambda: client.tasks.get("7"), lambda: next(client.tasks.events("7"))]
    for act in [*acts, client.health]:
        with pytest.raises(ClosedError, match="closed"):
            act()
    assert "closed" in in_a_child(lambda: client.tasks.get("7"))


def test_a_proxy_that_knows_no_server_says_nothing_of_a_task() -> None:
    with by_path({TASK: GONE, "/api/v1/tasks/": GONE}) as (url, asked), Compute(url, "secret", retry=QUICK) as client:
        with pytest.raises(UnavailableError) as away:
            client.tasks.get("7")
        assert (away.value.status, away.value.code, away.value.may_pass, away.value.tries) == (404, "NO_ROUTE", True, 3)
        with pytest.raises(UnavailableError):
            client.tasks.delete("7")
        asked.clear()
        with pytest.raises(UnavailableError):
            client.tasks.submit(prompt="a hat", idempotency_key="")
        assert len(asked) == 1, "who knows what became of it"
    with by_path({TASK: MISSING}) as (url, asked), Compute(url, "secret", retry=QUICK) as client:
        with pytest.raises(NotFoundError):
            client.tasks.get("7")
        assert len(asked) == 1
