# Made of compute/client/aio by `python -m tools.unasync`: change it there.
"""Sends requests: again where that is safe, to the server alone with the key, and within a deadline."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from time import monotonic
from typing import Any
from weakref import WeakSet

import httpx

from compute.client.common.calls import Call, error_of, json_of, no_answer
from compute.client.common.config import Config, gets_key, is_below, is_loopback, made, same_origin, transport_options
from compute.client.common.failures import Failure, failure_of_error, failure_of_status
from compute.client.errors import APIError, ArgumentError, ClientError, ClosedError, NoAnswer, UnexpectedAnswer
from compute.client.sync.io import sleep

__all__ = ["Transport", "whole"]

_CALLS_AT_ONCE = 100
"""Connections for requests that are answered at once; more of them wait for one."""
_MOST_BYTES = 64 * 1024 * 1024
"""Limit for one answer that is read as a whole; no list of this API has so many."""
_UNPACKED = frozenset({"content-encoding", "content-length", "transfer-encoding"})
"""Headers that say how a body was sent, and nothing of what it is."""


_ALL: "WeakSet[Transport]" = WeakSet()


def _begin_all() -> None:
    for transport in list(_ALL):
        if not transport._closed:
            transport._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all)


class Transport:
    """The connections of one client to its server, and to the places where results lie.

    Streams and downloads hold a connection for as long as they last, and have a pool without a limit of their own: no
    number of them keeps a request waiting.
    """

    def __init__(self, config: Config, transport: httpx.BaseTransport | None = None) -> None:
        self.config = config
        self._own: dict[str, Any] = {} if transport is None else {"transport": transport}
        self._closed = False
        self._begin()
        _ALL.add(self)

    def _begin(self) -> None:
        """Begin without connections, at first and in a process that was forked: they belong to the one before it."""
        self._http = made(httpx.Client, lambda: self.config.options(_CALLS_AT_ONCE) | self._own)
        self._streams: httpx.Client | None = None
        self._keyless: dict[bool, httpx.Client] = {}
        """For places elsewhere: on this machine, and on others."""
        self._making = Lock()

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        for client in (self._http, self._streams, *self._keyless.values()):
            if client is not None:
                client.close()

    def json(self, call: Call) -> Any:
        """Send a request and return the JSON value of its answer.

        Raises:
            ClientError: the server refuses, or does not answer as this API does.
        """
        return json_of(self.send(call))

    def send(self, call: Call) -> httpx.Response:
        """Send a request, as often as is safe and useful, and return the answer, a success.

        Raises:
            APIError: the server refuses.
            NoAnswer: no answer came.
        """
        deadline = monotonic() + (self.config.timeout if call.timeout is None else call.timeout)
        tried, perhaps_done = 0, False
        while True:
            tried += 1
            answer, error, failure = self._try(call, deadline - monotonic())
            if error is None or (perhaps_done and failure is Failure.OTHER and error.status in call.done_by):
                assert answer is not None  # noqa: S101 - there is an error otherwise
                return answer
            perhaps_done = perhaps_done or failure is Failure.COLLECTABLE
            asked = error.retry_after if isinstance(error, APIError) else None
            pause = self.config.retry.pause(failure, tried, asked, deadline - monotonic())
            if pause is None:
                if isinstance(error, APIError | NoAnswer):
                    error.tries = tried
                raise error
            sleep(pause)

    def _try(self, call: Call, left: float) -> tuple[httpx.Response | None, ClientError | None, Failure]:
        """Send a request once; what came of it."""
        try:
            with call.arguments() as arguments:
                request = self._request(self._http, arguments, left)
                deadline = monotonic() + left
                opened = self._send(self._http, request)
                try:
                    answer = whole(opened, deadline - monotonic())
                finally:
                    opened.close()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            failure = failure_of_error(error, repeatable=call.repeatable)
            found = no_answer(error, failure, call, self.config.url)
            if not isinstance(error, httpx.LocalProtocolError):
                found.__cause__ = error
            return None, found, failure
        if answer.is_success:
            return answer, None, Failure.OTHER
        refusal = error_of(answer, call)
        return answer, refusal, failure_of_status(answer.status_code, refusal.code, repeatable=call.repeatable)

    @contextmanager
    def open(self, call: Call, left: float, *, url: httpx.URL | None = None) -> Iterator[httpx.Response]:
        """Send a request once and yield the answer, whatever its status, before its body.

        Args:
            left: Seconds until the caller's deadline.
            url: Another address than the call's path. It gets the key only if it is a file of the server.

        Raises:
            httpx.HTTPError: no answer came.
        """
        client = self._for(url)
        with call.arguments() as arguments:
            if url is None:
                request = self._request(client, arguments, left)
            else:
                request = client.build_request(**arguments | {"url": url}, timeout=self.config.limits(left))
                if not gets_key(url, self.config.url):
                    request.headers.pop("Authorization", None)
            answer = self._send(client, request)
        try:
            yield answer
        finally:
            answer.close()

    def _send(self, client: httpx.Client, request: httpx.Request) -> httpx.Response:
        """Send a request, and return the answer before its body.

        Raises:
            ClosedError: this client was closed, or belongs to another event loop.
        """
        if self._closed:
            raise ClosedError("the client has been closed")
        try:
            return client.send(request, stream=True)
        except RuntimeError as error:
            raise ClosedError(f"the client cannot be used here: {error}") from error

    def _request(self, client: httpx.Client, arguments: dict[str, Any], left: float) -> httpx.Request:
        """A request to a route of the API, with the key.

        Raises:
            ArgumentError: its path leads elsewhere, as one with a host of its own does.
        """
        request = client.build_request(**arguments, timeout=self.config.limits(left))
        if not is_below(request.url, self.config.url):
            raise ArgumentError("a path of the API must lead to a route below `/api/v1`, without a host or `..`")
        return request

    def _for(self, url: httpx.URL | None) -> httpx.Client:
        """The client for an address: that of the server, which sends its headers, for the server alone."""
        with self._making:
            if url is None or same_origin(url, httpx.URL(self.config.url)):
                if self._streams is None:
                    self._streams = made(httpx.Client, lambda: self.config.options(None) | self._own)
                return self._streams
            here = is_loopback(url)
            if here not in self._keyless:
                unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=20)
                options = partial(transport_options, "https://127.0.0.1" if here else "https://elsewhere.invalid")
                self._keyless[here] = made(httpx.Client, lambda: {**options(), "limits": unlimited})
            return self._keyless[here]


def whole(answer: httpx.Response, seconds: float) -> httpx.Response:
    """An answer with its body, which is read in so many seconds at most, however slowly it comes.

    Raises:
        httpx.HTTPError: it breaks off, or takes too long.
        UnexpectedAnswer: it is larger than any of this API.
    """
    deadline, size, chunks = monotonic() + seconds, 0, []
    if "," in answer.headers.get("content-encoding", ""):
        raise UnexpectedAnswer("the server sends an answer that is packed several times", answer.status_code)
    for chunk in answer.iter_bytes():
        size += len(chunk)
        chunks.append(chunk)
        if size > _MOST_BYTES:
            raise UnexpectedAnswer("the answer is larger than any of this API", answer.status_code)
        if monotonic() > deadline:
            raise httpx.ReadTimeout("", request=answer.request)
    headers = [(name, value) for name, value in answer.headers.multi_items() if name not in _UNPACKED]
    said = {name: value for name, value in answer.extensions.items() if name == "reason_phrase"}
    return httpx.Response(
        answer.status_code, headers=headers, content=b"".join(chunks), request=answer.request, extensions=said
    )
