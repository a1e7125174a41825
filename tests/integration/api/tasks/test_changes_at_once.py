"""Two clients that change one task at the same time."""

import asyncio
from uuid import UUID

import httpx

from compute.db.session import Database
from compute.db.tables import Task
from tests.integration.api.loras.lora_bytes import lora
from tests.integration.locks import locked, waiting_for_locks
from tests.integration.rows import reload


async def upload(api: httpx.AsyncClient, value: float) -> str:
    sent = await api.post(
        "/lora/upload", files={"file": (f"look{value}.safetensors", lora(value))}, data={"entity_type": "styles"}
    )
    assert sent.status_code == 201, sent.text
    path: str = sent.json()["file_path"]
    return path


async def test_the_loras_that_a_task_names_are_those_of_its_spec(api: httpx.AsyncClient, database: Database) -> None:
    paths = {slot: await upload(api, value) for slot, value in (("subject", 1.0), ("style", 2.0))}
    created = await api.post("/tasks/", json={"task_type": "GENERATION", "prompt": "a", "origin_instance": "tests"})
    task = await reload(database, Task(id=UUID(created.json()["id"])))
    async with locked(database, task):
        # Both have derived what they change from the same row by the time they wait for it.
        changing = [
            asyncio.create_task(api.put(f"/tasks/generation/{task.id}", json={f"{slot}_model_path": path}))
            for slot, path in paths.items()
        ]
        await waiting_for_locks(database, 2)
    assert [answer.status_code for answer in await asyncio.gather(*changing)] == [200, 200]
    spec = (await reload(database, task)).spec
    assert {slot: spec[f"{slot}_model_path"] for slot in paths} == paths
    assert {entry["slot"]: entry["path"] for entry in spec["loras"]} == paths
