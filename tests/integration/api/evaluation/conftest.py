"""The API before stand-ins of vision models' vendors, and what it is asked."""

import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from PIL import Image
from sqlalchemy import select

from compute.db.session import Database
from compute.db.tables import ProviderCall
from compute.settings import Settings
from tests.integration.api.conftest import KEY, serving_api
from tests.integration.api.evaluation.vendors import VENDORS, Vendor
from tests.patience import PATIENCE
from tests.providers.standins.server import StandIn
from tests.servers import PLAIN_HTTP

[OPENAI] = [one for one in VENDORS if one.name == "openai"]


def picture(size: tuple[int, int] = (64, 96), colour: str = "red") -> str:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def asked(**values: Any) -> dict[str, Any]:
    given = {"image_data": picture(), "expected_framing": "full_body", "expected_view_angle": "front"} | values
    return {name: value for name, value in given.items() if value is not None}


@asynccontextmanager
async def client_of(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving_api(settings) as url,
        httpx.AsyncClient(
            base_url=f"{url}/api/v1",
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=PATIENCE,
            verify=PLAIN_HTTP,
        ) as client,
    ):
        yield client


def leading(settings: Settings, vendor: Vendor, stand_in: StandIn, **more: Any) -> Settings:
    return settings.model_copy(update=vendor.settings(stand_in) | more)


@pytest.fixture
async def openai() -> AsyncIterator[StandIn]:
    async with OPENAI.make() as running:
        yield running


async def evaluated(client: httpx.AsyncClient, **values: Any) -> dict[str, Any]:
    answer = await client.post("/evaluation/", json=asked(**values))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def calls(database: Database) -> list[ProviderCall]:
    async with database.transaction() as session:
        return list(await session.scalars(select(ProviderCall).order_by(ProviderCall.created_at)))
