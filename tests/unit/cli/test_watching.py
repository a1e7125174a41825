"""Looks at a server until something has ended: refusals end it, a server that is away for a while does not."""

from collections.abc import Callable

import pytest

from compute.cli.watching import poll
from compute.client import ClientError

AWAY = ClientError("it cannot be reached")
BUSY = ClientError("it is busy", 503)
REFUSED = ClientError("there is no such task", 404)


def in_order(*answers: str | ClientError) -> Callable[[], str]:
    left = iter(answers)

    def look() -> str:
        answer = next(left)
        if isinstance(answer, ClientError):
            raise answer
        return answer

    return look


def is_done(seen: str) -> bool:
    return seen == "done"


def test_it_polls_until_the_end_and_waits_for_a_server_that_is_away() -> None:
    look = in_order("waits", AWAY, BUSY, AWAY, "runs", BUSY, "done", "never seen")
    assert list(poll(look, is_done, pause=0)) == ["waits", "runs", "done"]


@pytest.mark.parametrize("error", [AWAY, BUSY, REFUSED], ids=str)
def test_a_server_that_was_never_there_is_not_waited_for(error: ClientError) -> None:
    with pytest.raises(ClientError, match=str(error)):
        next(poll(in_order(error, "done"), is_done, pause=0))


def test_a_refusal_ends_it() -> None:
    seen = poll(in_order("runs", REFUSED, "done"), is_done, pause=0)
    assert next(seen) == "runs"
    with pytest.raises(ClientError, match="no such task"):
        next(seen)
