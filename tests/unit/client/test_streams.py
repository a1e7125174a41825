"""Streams and waits: slow consumers, servers that only seem to speak, many at once, and deadlines."""

import asyncio
import socket
from typing import Any
from uuid import UUID

import pytest

from compute.client import (
    AsyncCompute,
    Compute,
    EndedBadly,
    Event,
    NoAnswer,
    RetryPolicy,
    SecretLostError,
    Task,
    UnexpectedAnswer,
    WaitTimeout,
)
from compute.client.common.sse import MessageReader
from compute.client.sync.polling import until_ended
from compute.testing import ComputeServer, Hangs
from tests.patience import NEVER, PATIENCE
from tests.servers import by_path

QUICK = RetryPolicy(tries=5, first_pause=0.001, longest_pause=0.01)
STREAM = {"Content-Type": "text/event-stream"}
MANY = 120
"""More than the connections that requests share."""


async def test_many_waits_leave_room_for_other_requests() -> None:
    with ComputeServer() as server:
        server.outcomes += [Hangs()] * MANY
        async with asyncio.timeout(PATIENCE), AsyncCompute(server.url, server.key) as client:
            tasks = await client.tasks.submit_all([{"prompt": "a hat"}] * MANY)
            seen: set[UUID] = set()
            all_seen = asyncio.Event()

            async def wait(task: Task) -> None:
                def note(_: Event) -> None:
                    seen.add(task.id)
                    if len(seen) == MANY:
                        all_seen.set()

                with pytest.raises(EndedBadly):
                    await client.tasks.wait(task, on_event=note)

            waits = [asyncio.create_task(wait(task)) for task in tasks]
            await all_seen.wait()
            assert (await client.tasks.run(prompt="a hat")).status == "COMPLETED"
            await asyncio.gather(*(client.tasks.cancel(task) for task in tasks))
            await asyncio.gather(*waits)


@pytest.mark.parametrize(
    "body",
    [b"", b": waiting\n\n", b"event: status\ndata: {}\n\n", b"id: 1-0-0-0\nevent: status\ndata: {}\n\n"],
    ids=["nothing", "a comment", "an event without an id", "the same event"],
)
def test_a_stream_that_always_ends_at_once_is_given_up(body: bytes) -> None:
    with (
        by_path({"/api/v1/tasks/7/events": (200, STREAM, body)}) as (url, asked),
        Compute(url, "secret", timeout=0.3, retry=QUICK) as client,
        pytest.raises(NoAnswer, match="too early"),
    ):
        list(client.tasks.events("7"))
    assert len(asked) > 1


def test_an_event_that_is_too_large_is_an_error_of_the_client() -> None:
    reader, part = MessageReader(), b"x" * 40_000_000
    assert list(reader.feed(b"data: " + part)) == []
    with pytest.raises(UnexpectedAnswer, match="too large"):
        list(reader.feed(part))


def test_pages_that_go_round_in_a_circle_are_left() -> None:
    following = {cursor: {"X-Next-Cursor": cursor} for cursor in "ab"}
    answers = {
        "/api/v1/tasks/": (200, following["a"], b"[]"),
        "/api/v1/tasks/?cursor=a": (200, following["b"], b"[]"),
        "/api/v1/tasks/?cursor=b": (200, following["a"], b"[]"),
    }
    with (
        by_path(answers) as (url, asked),
        Compute(url, "secret") as client,
        pytest.raises(UnexpectedAnswer, match="circle"),
    ):
        list(client.tasks.list())
    assert len(asked) == 3


def test_a_wait_that_is_over_names_the_task_and_has_its_last_event() -> None:
    with ComputeServer() as server, Compute(server.url, server.key) as client:
        server.outcomes.append(Hangs())
        task = client.tasks.submit(prompt="a hat")
        last: Any = None
        for seconds in (0.2, 2, 20, PATIENCE):
            with pytest.raises(WaitTimeout) as over:
                client.tasks.wait(f"task_{task.id.hex}", timeout=seconds)
            assert str(over.value) == f"task {task.id} has not ended in time; it goes on"
            if last := over.value.last:
                break
        assert isinstance(last, Event)
        assert last.data["id"] == str(task.id)


def test_a_server_that_never_answers_ends_no_later_than_the_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Compute(url, "secret") as client:
            for wait in (client.workflows.wait, client.trainings.wait, client.tasks.wait):
                with pytest.raises(WaitTimeout) as over:
                    wait("7", timeout=0.1)
                assert over.value.last is None


def test_the_last_look_is_at_the_deadline() -> None:
    looks: list[float] = []

    def look(seconds: float) -> Task:
        looks.append(seconds)
        return Task.model_construct(status="RUNNING" if len(looks) == 1 else "COMPLETED")

    ended = until_ended(look, "workflow", timeout=0.1, patience=120, every=NEVER, tell=None, check=True)
    assert ended.status == "COMPLETED"
    assert looks == [1.0, 1.0]


def test_a_key_whose_secret_was_lost_is_named() -> None:
    row = b'{"id": "0192d3f4-0000-7000-8000-000000000000", "name": "Shop", "key": null}'
    answers = {"/api/v1/admin/keys": (201, {}, row), "/api/v1/admin/keys/7/rotate": (200, {}, row)}
    with by_path(answers) as (url, _), Compute(url, "secret") as client:
        for act in (lambda: client.admin.keys.create("Shop"), lambda: client.admin.keys.rotate("7")):
            with pytest.raises(SecretLostError, match="0192d3f4-0000-7000-8000-000000000000") as lost:
                act()
            assert lost.value.row.name == "Shop"
