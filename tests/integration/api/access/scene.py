"""Two tenants with a key each, and what the second one has: of every kind one."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx

from compute.db.session import Database
from tests.integration.api.access.conftest import SMALL, GiveKey, bearer
from tests.integration.api.conftest import wait_for
from tests.integration.api.images.test_storage import picture
from tests.integration.api.loras.lora_bytes import lora
from tests.integration.api.training.rows import change
from tests.integration.rows import add
from tests.patience import PATIENCE
from tests.servers import PLAIN_HTTP

MINE, THEIRS = "mine", "theirs"
STEP = {"id": "draw", "task_type": "GENERATION", "config": SMALL, "requires_approval": True}


@dataclass
class Belongings:
    """What a tenant has. `marks` are texts that tell of it."""

    tenant: str
    task: str
    result: str
    waiting: str
    workflow: str
    training: str
    sample: str
    upload: str
    lora: str
    link: str
    marks: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for made in (self.task, self.waiting, self.workflow, self.training):
            self.marks |= {made, UUID(made).hex}
        self.marks |= {self.result, self.upload, self.lora}


def client(base_url: str, key: str) -> httpx.AsyncClient:
    """A client of the API with a key."""
    return httpx.AsyncClient(base_url=f"{base_url}/api/v1", headers=bearer(key), timeout=PATIENCE, verify=PLAIN_HTTP)


async def made(api: httpx.AsyncClient, path: str, **parts: Any) -> dict[str, Any]:
    answer = await api.post(path, **parts)
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def key_of(give: GiveKey, tenant: str, scope: str = "operate") -> str:
    return str((await give(name=tenant, tenant=tenant, scope=scope))["key"])


async def furnish(api: httpx.AsyncClient, tenant: str, database: Database, colour: str) -> Belongings:
    """Give the tenant whose key this is one thing of each kind. A worker must be running."""
    upload = (await made(api, "/storage/images", files={"file": ("a.png", picture(colour))}))["path"]
    task = (await made(api, "/tasks/", json=SMALL))["id"]
    ended = await wait_for(api, task, "COMPLETED")
    # In a queue that nobody serves.
    waiting = str((await add(database, queue="fal", tenant=tenant, origin_tenant_id=tenant)).id)
    flow = (await made(api, "/workflows/", params={"start": False}, json=flow_of(STEP)))["id"]
    training = (await made(api, "/training/", json={"trigger_word": "zx", "source_images": [upload]}))["id"]
    sample = f"training/{training}/samples/1.png"
    await change(database, UUID(training), samples=[{"path": sample, "prompt": "zx", "step": 1, "seed": 1}])
    files = {"file": (f"{tenant}.safetensors", lora(0.5))}
    stored = (await made(api, "/lora/upload", files=files, data={"entity_type": "style"}))["partial_path"]
    result = ended["result_image_paths"][0]
    link = (await api.get(f"/tasks/task_{UUID(task).hex}")).json()["output"]["images"][0]["url"]
    return Belongings(tenant, task, result, waiting, flow, training, sample, upload, stored, link)


def flow_of(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"name": "w", "origin_instance": "tests", "steps": list(steps)}


def text_of(answer: httpx.Response, *ids: str) -> str:
    """An answer without the ids that its request named."""
    said = answer.text
    for one in sorted(ids, key=len, reverse=True):
        said = said.replace(one, "{}").replace(json.dumps(one)[1:-1], "{}")
    return said


async def early_in_a_minute() -> None:
    """Wait until what follows lies within one minute."""
    async with asyncio.timeout(PATIENCE):
        while datetime.now(UTC).second > 45:
            await asyncio.sleep(0.1)
