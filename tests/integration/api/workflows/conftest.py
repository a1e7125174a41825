"""Workflows through the API, with a real engine and real step runners in this process, and the API tests' workers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw

from compute.api.paths import IMAGES
from compute.db.session import Database
from compute.settings import Settings
from compute.worker.protocol import GenerateRequest
from compute.workflows.engine import Engine
from compute.workflows.rows.engine import PostgresEngineStore
from compute.workflows.steps.runtime import open_runner
from tests.integration.api.conftest import Painter
from tests.integration.api.workflows.local import QUICK, SERVING, LocalCompiler
from tests.patience import PATIENCE

SMALL = {"width": 64, "height": 64, "steps": 1, "seed": 1}


@dataclass
class SubjectPainter(Painter):
    """Puts something in front of its colour, so that there is something to cut out. Fails when it is asked to."""

    broken: bool = True

    def prepare(self, request: GenerateRequest) -> GenerateRequest:
        if self.broken and "impossible" in request.prompt:
            raise ValueError("it cannot be drawn")
        return request

    def decode(self, request: GenerateRequest) -> Image.Image:
        picture = Painter.decode(self, request)
        width, height = picture.size
        ImageDraw.Draw(picture).ellipse((width // 4, height // 4, width * 3 // 4, height * 3 // 4), fill=(250, 250, 20))
        return picture


@pytest.fixture
def painter() -> SubjectPainter:
    return SubjectPainter()


@asynccontextmanager
async def running_engine(settings: Settings, database: Database, owner: str = "engine") -> AsyncIterator[None]:
    """An engine with a runner of its own."""
    failures: list[BaseException] = []
    async with open_runner(settings, SERVING, failures.append, links_at=IMAGES) as runner:
        work = asyncio.create_task(Engine(PostgresEngineStore(database), LocalCompiler(runner), QUICK, owner).run())
        try:
            yield
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            assert failures == []


@pytest.fixture
async def engine(settings: Settings, database: Database) -> AsyncIterator[None]:
    async with running_engine(settings, database):
        yield


async def wait_for(api: httpx.AsyncClient, workflow_id: str, *statuses: str) -> dict[str, Any]:
    """The workflow once it has one of these statuses."""
    async with asyncio.timeout(PATIENCE):
        while (found := (await api.get(f"/workflows/{workflow_id}")).json())["status"] not in statuses:
            await asyncio.sleep(0.03)
    return found


def draw(step_id: str, *depends_on: str, prompt: str = "a red dress", **more: Any) -> dict[str, Any]:
    """A step that draws one small picture."""
    config = SMALL | {"prompt": prompt} | more.pop("config", {})
    return {"id": step_id, "task_type": "GENERATION", "config": config, "depends_on": list(depends_on), **more}


def mapping(source: str, field: str, target: str, **more: Any) -> dict[str, Any]:
    return {"from_step": source, "from_field": field, "to_field": target, **more}


def workflow(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "test", "origin_instance": "tests", "steps": list(steps), **more}


async def post(api: httpx.AsyncClient, *steps: dict[str, Any], start: bool = True, **more: Any) -> str:
    """Define a workflow; its id."""
    answer = await api.post("/workflows/", params={"start": start}, json=workflow(*steps, **more))
    assert answer.status_code == 201, answer.text
    created: str = answer.json()["id"]
    return created


async def run(api: httpx.AsyncClient, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A workflow at its end."""
    return await wait_for(api, await post(api, *steps, **more), "COMPLETED", "FAILED")


def by_id(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {step["step_id"]: step for step in found["steps"]}


def statuses(found: dict[str, Any]) -> dict[str, str]:
    return {step["step_id"]: step["status"] for step in found["steps"]}
