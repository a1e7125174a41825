"""Answers that are damaged, too deep, too large or too slow, and errors that go to another process."""

import copy
import gzip
import json
import pickle
from collections.abc import Callable
from itertools import repeat
from typing import Any

import httpx
import pytest

from compute.client import (
    APIError,
    ClientError,
    Compute,
    EndedBadly,
    Failure,
    NoAnswer,
    RetryPolicy,
    SecretLostError,
    Task,
    UnexpectedAnswer,
    WaitTimeout,
    WebhookError,
    errors,
    verify_webhook,
)
from compute.client.common.parsing import read
from compute.client.sync.transport import whole
from tests.servers import Answer, by_path
from tests.unit.client.test_webhooks import OLD, signed

QUICK = RetryPolicy(tries=2, first_pause=0.001)
DEEP = b"[" * 100_000
JSON = {"Content-Type": "application/json"}
TASK = "/api/v1/tasks/7"


def asked(answer: Answer, act: Callable[[Compute], Any], path: str = TASK) -> tuple[ClientError, int]:
    """The error of a call that gets this answer, and how often it was sent."""
    with by_path({path: answer}) as (url, sent), Compute(url, "secret", retry=QUICK) as client:
        with pytest.raises(ClientError) as raised:
            act(client)
        return raised.value, len(sent)


def test_json_that_is_too_deep_is_an_error_of_the_client() -> None:
    error, sent = asked((200, JSON, DEEP), lambda client: client.tasks.get("7"))
    assert (type(error), sent) == (UnexpectedAnswer, 1)
    error, sent = asked((502, JSON, DEEP), lambda client: client.tasks.get("7"))
    assert isinstance(error, APIError)
    assert (error.status, sent) == (502, 2)
    body = b"data: " + DEEP + b"\n\nevent: completed\ndata: {}\n\n"
    stream = (200, {"Content-Type": "text/event-stream"}, body)
    with by_path({f"{TASK}/events": stream}) as (url, _), Compute(url, "secret") as client:
        assert [event.data for event in client.tasks.events("7")] == [{}, {}]
    with pytest.raises(WebhookError):
        verify_webhook(DEEP, signed(OLD, body=DEEP.decode()), OLD)


def test_a_damaged_answer_may_have_been_a_good_one() -> None:
    damaged = (201, JSON | {"Content-Encoding": "gzip"}, b"\x1f\x8bno gzip at all")
    error, sent = asked(damaged, lambda client: client.tasks.submit(prompt="a hat"), "/api/v1/tasks/")
    assert isinstance(error, NoAnswer)
    assert (error.failure, sent) == (Failure.COLLECTABLE, 2)
    assert "damaged" in str(error)
    once = lambda client: client.tasks.submit(prompt="a hat", idempotency_key="")  # noqa: E731
    error, sent = asked(damaged, once, "/api/v1/tasks/")
    assert isinstance(error, NoAnswer)
    assert (error.failure, sent) == (Failure.UNKNOWN, 1)


def flood(chunks: Any, **headers: str) -> httpx.Response:
    return httpx.Response(200, headers=headers, content=chunks, request=httpx.Request("GET", "http://127.0.0.1"))


def test_an_answer_without_an_end_is_left() -> None:
    with pytest.raises(UnexpectedAnswer, match="larger"):
        whole(flood(repeat(b" " * 1_000_000)), float("inf"))
    with pytest.raises(httpx.ReadTimeout):
        whole(flood(repeat(b" ")), 0.0)
    with pytest.raises(UnexpectedAnswer, match="packed several times"):
        whole(flood(iter([b""]), **{"content-encoding": "gzip, gzip"}), 1.0)


def test_what_is_small_when_it_is_packed_is_left_before_it_is_large() -> None:
    packed = gzip.compress(b" " * 200_000_000)
    error, _ = asked((200, JSON | {"Content-Encoding": "gzip"}, packed), lambda client: client.tasks.get("7"))
    assert isinstance(error, UnexpectedAnswer)
    assert "larger" in str(error)


@pytest.mark.parametrize(
    "odd", [7, True, "boom", ["a"], [7], [{"p": "a.png"}], {"a": 1}, [], {}], ids=lambda odd: json.dumps(odd)
)
def test_no_property_of_an_answer_raises(odd: Any) -> None:
    names = ("status", "errors", "metadata", "result_image_paths", "result_image_path", "result_image_urls")
    for name in names:
        task = read(Task, {"id": "7", "task_type": "GENERATION", "status": "COMPLETED", name: odd})
        assert isinstance(task.ended, bool)
        assert all(isinstance(one, str) for one in [*task.paths, *task.urls])
        assert task.error is None or isinstance(task.error, str)
        assert task.digest("a") is None
    assert read(Task, {"errors": "boom"}).error == "boom"
    assert read(Task, {"result_image_paths": "a.png"}).paths == ["a.png"]


def examples() -> list[ClientError]:
    """An error of every class."""
    row = read(Task, {"id": "7", "status": "DREAMING", "mood": {"good": True}})
    special = {
        NoAnswer: NoAnswer("gone", failure=Failure.UNKNOWN, tries=3, idempotency_key="k"),
        WaitTimeout: WaitTimeout("late", row),
        EndedBadly: EndedBadly("failed", row, "INTERNAL"),
        SecretLostError: SecretLostError("lost", row),
    }
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, ClientError)]
    return [
        special[kind]
        if kind in special
        else kind("no", 404, code="X", faults=(errors.FieldFault(("body", "a"), "b", "c"),), request_id="r")
        if issubclass(kind, APIError)
        else kind("no")
        for kind in kinds
    ]


@pytest.mark.parametrize("error", examples(), ids=lambda error: type(error).__name__)
def test_errors_and_answers_go_to_another_process_and_are_copied(error: ClientError) -> None:
    error.add_note("a note")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
        assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))
