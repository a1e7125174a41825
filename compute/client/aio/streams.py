"""Event streams that go on after a lost connection, without loss and without repetition."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from time import monotonic

import httpx

from compute.client.aio.io import sleep
from compute.client.aio.transport import AsyncTransport, whole
from compute.client.common.calls import Call, error_of, no_answer
from compute.client.common.failures import Failure, Patience, failure_of_error, failure_of_status
from compute.client.common.sse import Message, MessageReader
from compute.client.errors import APIError, BadRequestError, ClientError, NoAnswer, UnexpectedAnswer, WaitTimeout

__all__ = ["follow"]

_STREAM = "text/event-stream"
_SILENCE = 45.0
"""Seconds without a byte after which a connection is dead: the server speaks every 15 s."""
_STEADY = 5.0
"""Seconds after which a connection that says anything is one that works, even without an event."""


@dataclass(slots=True)
class _Follower:
    """Where a stream is, across connections.

    Attributes:
        what: What it tells of, for errors.
        last: The id of the last event that was received as a whole.
        patience: What is left of the time for which a server that is away is waited for.
        opened: When the present connection was made.
    """

    what: str
    last: str | None
    deadline: float
    patience: Patience
    resumed: bool = False
    opened: float = 0.0

    def left(self) -> float:
        """Seconds until the deadline.

        Raises:
            WaitTimeout: it has passed.
        """
        left = self.deadline - monotonic()
        if left <= 0:
            raise WaitTimeout(f"{self.what} has not ended in time; it goes on")
        return left

    def hears(self) -> None:
        """Note some bytes."""
        if monotonic() - self.opened > _STEADY:
            self.patience.renew()

    def receives(self, message: Message) -> None:
        """Note an event. The same one again is no progress."""
        if message.id != self.last:
            self.patience.renew()
        self.last, self.resumed = message.id, True


async def follow(
    transport: AsyncTransport, call: Call, what: str, *, after: str | None, timeout: float | None, ends: frozenset[str]
) -> AsyncGenerator[Message]:
    """The events of a stream, until one whose name is in `ends`.

    A connection that breaks is made anew, and says which event was the last one that came as a whole. A server that
    is away is waited for, from the first failure on, for as long as one call may take.

    Args:
        what: What it tells of, for errors.
        after: Begin behind the event with this id; None begins with the present state.
        timeout: Seconds for all of it; None waits without end.

    Raises:
        WaitTimeout: there was no end in time.
        ClientError: the server refuses, or stays away.
    """
    deadline = float("inf") if timeout is None else monotonic() + timeout
    state = _Follower(what, after, deadline, Patience(transport.config.timeout))
    while True:
        failure = Failure.COLLECTABLE
        error: ClientError = NoAnswer(f"{transport.config.url} ends the stream too early", failure=failure)
        try:
            async with transport.open(_resuming(call, state.last), min(_SILENCE, state.left())) as answer:
                if answer.status_code == httpx.codes.NO_CONTENT:
                    return
                refusal, failure = await _refusal(answer, call, state.left())
                if refusal is not None:
                    error = refusal
                else:
                    state.opened = monotonic()
                    reader = MessageReader(state.last)
                    async for chunk in answer.aiter_bytes():
                        state.hears()
                        for message in reader.feed(chunk):
                            state.receives(message)
                            yield message
                            if message.event in ends:
                                return
                        state.left()
        except (httpx.HTTPError, httpx.InvalidURL) as broken:
            failure = failure_of_error(broken, repeatable=True)
            error = no_answer(broken, failure, call, transport.config.url)
        await _pause(transport, state, error, failure)


def _resuming(call: Call, last: str | None) -> Call:
    headers = (*call.headers, ("Accept", _STREAM), *((("Last-Event-ID", last),) if last else ()))
    return replace(call, headers=headers)


async def _refusal(answer: httpx.Response, call: Call, left: float) -> tuple[ClientError | None, Failure]:
    """Why an answer is no stream; None if it is one, which may break off at any time."""
    if not answer.is_success:
        error = error_of(await whole(answer, min(_SILENCE, left)), call)
        return error, failure_of_status(answer.status_code, error.code, repeatable=True)
    if not answer.headers.get("content-type", "").startswith(_STREAM):
        return UnexpectedAnswer("the server does not answer as this API does", answer.status_code), Failure.OTHER
    return None, Failure.COLLECTABLE


async def _pause(transport: AsyncTransport, state: _Follower, error: ClientError, failure: Failure) -> None:
    """Wait until the next connection.

    Raises:
        ClientError: there is to be none.
    """
    if isinstance(error, BadRequestError) and state.resumed:
        # The server does not know its own event any more, as after its database was restored.
        state.last, state.resumed = None, False
    elif failure is Failure.OTHER:
        raise error
    asked = error.retry_after if isinstance(error, APIError) else None
    seconds = state.patience.fails(transport.config.retry, asked)
    if seconds is None:
        raise error
    await sleep(min(seconds, state.left()))
