"""Settings of a client: keys and headers that are no such thing are refused, and never repeated."""

import traceback
from collections.abc import Callable

import pytest

from compute.client import ArgumentError, ClientError, Compute, ConfigurationError, NoAnswer, RetryPolicy
from tests.servers import by_path

NOWHERE = "http://127.0.0.1:9"
ONCE = RetryPolicy(tries=1)
TASK = (200, {}, b'{"id": "7", "status": "PENDING"}')
SECRET = "hush-hush"


def text_of(error: BaseException) -> str:
    """Everything that a log may show of an error."""
    return "".join([str(error), repr(error), *traceback.format_exception_only(error), *causes(error)])


def causes(error: BaseException) -> list[str]:
    found = []
    while (cause := error.__cause__ or error.__context__) is not None:
        found.append(f"{cause} {cause!r}")
        error = cause
    return found


@pytest.mark.parametrize("around", ["{}\n", " {}\t", "{}\r\n"])
def test_white_space_around_a_key_is_no_part_of_it(around: str) -> None:
    with by_path({"/api/v1/tasks/7": TASK}) as (url, asked), Compute(url, around.format(SECRET)) as client:
        assert client.tasks.get("7").status == "PENDING"
    assert asked == [("/api/v1/tasks/7", f"Bearer {SECRET}")]


@pytest.mark.parametrize("inside", ["\n", "\r\nX: ", " ", "\0", "é", "\x7f"])
@pytest.mark.parametrize(
    "make",
    [
        lambda value: Compute(NOWHERE, value),
        lambda value: Compute(NOWHERE, "key", headers={"X-Gateway": value.replace(" ", "\n").replace("é", "\0")}),
        lambda value: Compute(f"http://name:{value}@127.0.0.1:9", "key"),
    ],
    ids=["key", "header", "address"],
)
def test_what_cannot_be_sent_is_refused_without_being_repeated(make: Callable[[str], Compute], inside: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make(f"{SECRET}{inside}{SECRET}").close()
    assert SECRET not in text_of(refused.value)


def test_an_address_with_a_password_is_refused() -> None:
    # It would be sent instead of the key.
    with pytest.raises(ConfigurationError, match="password") as refused:
        Compute(f"http://name:{SECRET}@127.0.0.1:9", "key")
    assert SECRET not in text_of(refused.value)


@pytest.mark.parametrize("odd", ["a\nb", "größe", " a", "a\r\nX-Admin: 1"])
def test_what_a_call_cannot_send_is_an_error_of_the_client(odd: str) -> None:
    with by_path({}) as (url, asked), Compute(url, SECRET, retry=ONCE) as client:
        for act in (
            lambda: client.tasks.submit(prompt="a hat", idempotency_key=odd),
            lambda: next(client.tasks.events("7", after=odd)),
        ):
            with pytest.raises(ArgumentError):
                act()
    assert asked == []


def test_health_is_asked_without_the_key_and_its_errors_are_the_clients() -> None:
    ready = (503, {"Content-Type": "application/json"}, b'{"status": "starting"}')
    with (
        by_path({"/health": (200, {}, b'{"status": "ok"}'), "/health?ready=1": ready}) as (url, asked),
        Compute(url, SECRET) as client,
    ):
        assert client.health() == {"status": "ok"}
        assert client.health(ready=True) == {"status": "starting"}
    assert asked == [("/health", None), ("/health?ready=1", None)]
    with pytest.raises(NoAnswer, match="cannot be reached"), Compute(NOWHERE, SECRET) as client:
        client.health()
    for body in (b"<html>", b"[]"):
        with (
            by_path({"/health": (200, {}, body)}) as (url, _),
            Compute(url, SECRET) as client,
            pytest.raises(ClientError, match="does not answer as this API does"),
        ):
            client.health()


@pytest.mark.parametrize(
    "address", ["{}:{}@127.0.0.1:9", "127.0.0.1:9?key={1}", "ftp://a/?key={1}", "http://[{0}@x?{1}"]
)
def test_no_part_of_an_address_that_may_be_a_secret_is_repeated(address: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Compute(address.format("name", SECRET), "key").close()
    assert SECRET not in str(refused.value)


def test_the_address_of_the_api_is_as_good_as_that_of_its_server() -> None:
    with by_path({"/api/v1/tasks/7": TASK}) as (url, asked):
        for address in (url, f"{url}/", f"{url}/api/v1", f"{url}/api/v1/"):
            with Compute(address, SECRET) as client:
                assert client.tasks.get("7").status == "PENDING"
    assert {path for path, _ in asked} == {"/api/v1/tasks/7"}
