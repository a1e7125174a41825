"""Figures of requests that nobody waits for any more."""

import asyncio

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from compute.api.http.observed import LEFT, Observed
from compute.api.http.routes import RouteTable
from compute.telemetry.instruments import REQUESTS

SCOPE = {"type": "http", "method": "GET", "path": "/nowhere", "headers": [], "state": {"request_id": "r-1"}}


async def receive() -> Message:
    return {"type": "http.disconnect"}


async def send(_: Message) -> None:
    return


async def statuses(error: BaseException, *, begun: bool) -> set[str]:
    """Those under which a request is counted that ends with an error."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    REQUESTS.take()
    with pytest.raises(type(error)):
        await Observed(app, RouteTable([]))(dict(SCOPE), receive, send)
    return {status for _, _, status in REQUESTS.take()}


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ClientDisconnect()])
async def test_a_client_that_leaves_is_no_failure_of_ours(error: BaseException) -> None:
    assert await statuses(error, begun=False) == {str(LEFT)}
    assert await statuses(error, begun=True) == {"200"}


async def test_an_error_is_one() -> None:
    assert await statuses(RuntimeError("a bug"), begun=False) == {"500"}
