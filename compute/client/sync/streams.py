# Made of compute/client/aio by `python -m tools.unasync`: change it there.
"""Event streams that go on after a lost connection, without loss and without repetition."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from time import monotonic

import httpx

from compute.client.common.calls import Call, error_of, no_answer
from compute.client.common.failures import Failure, failure_of_error, failure_of_status
from compute.client.common.sse import Message, MessageReader
from compute.client.errors import APIError, BadRequestError, ClientError, UnexpectedAnswer, WaitTimeout
from compute.client.sync.io import sleep
from compute.client.sync.transport import Transport

__all__ = ["follow"]

_STREAM = "text/event-stream"
_SILENCE = 45.0
"""Seconds without a byte after which a connection is dead: the server speaks every 15 s."""


@dataclass(slots=True)
class _Follower:
    """Where a stream is, across connections.

    Attributes:
        last: The id of the last event that was received as a whole.
        heard: When a byte came last.
        tried: Connections since then.
    """

    last: str | None
    resumed: bool
    heard: float
    deadline: float
    tried: int = 0

    def left(self, what: str) -> float:
        """Seconds until the deadline."""
        left = self.deadline - monotonic()
        if left <= 0:
            raise WaitTimeout(f"{what} has not ended in time; it goes on")
        return left

    def hears(self) -> None:
        self.heard, self.tried = monotonic(), 0


def follow(
    transport: Transport, call: Call, *, after: str | None, timeout: float | None, ends: frozenset[str]
) -> Generator[Message]:
    """The events of a stream, until one whose name is in `ends`.

    A connection that breaks is made anew, and says which event was the last one that came as a whole. A server that
    is away is waited for, for as long as one call may take.

    Args:
        after: Begin behind the event with this id; None begins with the present state.
        timeout: Seconds for all of it; None waits without end.

    Raises:
        WaitTimeout: there was no end in time.
        ClientError: the server refuses, or stays away.
    """
    now = monotonic()
    state = _Follower(after, False, now, now + timeout if timeout is not None else float("inf"))
    while True:
        error: ClientError | None = None
        failure = Failure.COLLECTABLE
        try:
            with transport.open(_resuming(call, state.last), min(_SILENCE, state.left(call.path))) as answer:
                if answer.status_code == httpx.codes.NO_CONTENT:
                    return
                error, failure = _refusal(answer, call)
                if error is None:
                    reader = MessageReader(state.last)
                    for chunk in answer.iter_bytes():
                        state.hears()
                        for message in reader.feed(chunk):
                            state.last, state.resumed = message.id, True
                            yield message
                            if message.event in ends:
                                return
                        state.left(call.path)
        except (httpx.HTTPError, httpx.InvalidURL) as broken:
            failure = failure_of_error(broken, repeatable=True)
            error = no_answer(broken, failure, call, transport.config.url)
        _pause(transport, state, call, error, failure)


def _resuming(call: Call, last: str | None) -> Call:
    headers = (*call.headers, ("Accept", _STREAM), *((("Last-Event-ID", last),) if last else ()))
    return replace(call, headers=headers)


def _refusal(answer: httpx.Response, call: Call) -> tuple[ClientError | None, Failure]:
    """Why an answer is no stream; None if it is one, which may break off at any time."""
    if not answer.is_success:
        answer.read()
        error = error_of(answer, call)
        return error, failure_of_status(answer.status_code, error.code, repeatable=True)
    if not answer.headers.get("content-type", "").startswith(_STREAM):
        return UnexpectedAnswer("the server does not answer as this API does", answer.status_code), Failure.OTHER
    return None, Failure.COLLECTABLE


def _pause(transport: Transport, state: _Follower, call: Call, error: ClientError | None, failure: Failure) -> None:
    """Wait until the next connection.

    Raises:
        ClientError: there is to be none.
    """
    if isinstance(error, BadRequestError) and state.resumed:
        # The server does not know its own event any more, as after its database was restored.
        state.last, state.resumed, error = None, False, None
    elif error is not None and failure is Failure.OTHER:
        raise error
    state.tried += 1
    seconds = transport.config.retry.backoff(state.tried, error.retry_after if isinstance(error, APIError) else None)
    if error is not None and monotonic() + seconds - state.heard > transport.config.timeout:
        raise error
    # The first connection after one that spoke is made at once.
    sleep(min(seconds, state.left(call.path)) if state.tried > 1 else 0.0)
