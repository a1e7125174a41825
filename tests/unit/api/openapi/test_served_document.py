"""The OpenAPI document is costly to make, and anybody may ask for it."""

import asyncio
import threading
from typing import Any

import httpx
from fastapi import FastAPI

from compute.api.openapi.document import ServedDocument
from compute.settings import Settings
from tests.patience import PATIENCE


async def test_many_who_ask_at_once_wait_for_one_making_of_the_document() -> None:
    app = FastAPI(openapi_url=None)
    at_once, most, asked = 0, 0, threading.Event()
    counting = threading.Lock()

    def making() -> dict[str, Any]:
        nonlocal at_once, most
        with counting:
            at_once += 1
            most = max(most, at_once)
        # Lets those who ask meanwhile come in before this one ends.
        assert asked.wait(PATIENCE)
        with counting:
            at_once -= 1
        return {"openapi": "3.1.0"}

    app.openapi = making  # type: ignore[method-assign]
    app.add_route("/openapi.json", ServedDocument(Settings()).answer)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", timeout=PATIENCE) as client:
        gets = [asyncio.create_task(client.get("/openapi.json")) for _ in range(4)]
        async with asyncio.timeout(PATIENCE):
            while not at_once:
                await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0.001)
        asked.set()
        answers = await asyncio.gather(*gets)
    assert most == 1
    assert [answer.json()["servers"] for answer in answers] == [[{"url": "http://127.0.0.1:8000"}]] * 4
