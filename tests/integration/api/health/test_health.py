import asyncio

import httpx

from tests.integration.api.conftest import Painter
from tests.patience import PATIENCE


async def test_liveness_needs_nothing(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"


async def test_not_ready_says_what_is_missing(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.get("/health", params={"ready": 1})
    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert (checks["database"], checks["storage"]) == ("ok", "ok")
    assert checks["queue inference"] == "no warm replica yet"


async def test_ready_when_a_task_would_run_at_once(anonymous: httpx.AsyncClient, worker: Painter) -> None:
    async with asyncio.timeout(PATIENCE):
        while (answer := await anonymous.get("/health", params={"ready": 1})).status_code != 200:
            await asyncio.sleep(0.05)
    assert answer.json() == {
        "status": "ready",
        "version": answer.json()["version"],
        "checks": dict.fromkeys(("storage", "database", "dispatcher", "queue image", "queue inference"), "ok"),
    }


async def test_the_document_is_served(anonymous: httpx.AsyncClient) -> None:
    document = (await anonymous.get("/openapi.json")).json()
    assert "/api/v1/tasks/generation" in document["paths"]
    assert document["paths"]["/api/v1/tasks/"]["post"]["security"]
