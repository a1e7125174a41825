"""Work that nobody waits for any more is not done."""

import asyncio

import pytest
from fastapi import Request
from starlette.types import Message

from compute.api.http.connected import while_connected
from compute.errors import BadRequest


def request_of(messages: "asyncio.Queue[Message]") -> Request:
    return Request({"type": "http", "headers": []}, messages.get)


async def test_the_work_is_cancelled_with_its_client() -> None:
    messages: asyncio.Queue[Message] = asyncio.Queue()
    cancelled = asyncio.Event()

    async def work() -> None:
        messages.put_nowait({"type": "http.disconnect"})
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(BadRequest):
        await while_connected(request_of(messages), work())
    assert cancelled.is_set()


async def test_a_client_that_stays_gets_the_result() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await while_connected(request_of(asyncio.Queue()), work()) == 7


async def test_an_error_is_the_client_s_too() -> None:
    async def work() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await while_connected(request_of(asyncio.Queue()), work())
