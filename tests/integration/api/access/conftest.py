"""An administrator, who gives keys out."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from compute.settings import Settings
from tests.patience import PATIENCE
from tests.servers import PLAIN_HTTP

ADMIN_KEY = "admin-test-key-long"
SMALL = {"prompt": "a hat", "width": 64, "height": 64, "steps": 1, "seed": 1}

GiveKey = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"admin_api_key": SecretStr(ADMIN_KEY)})


@pytest.fixture
async def admin(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the administrator's key."""
    async with httpx.AsyncClient(
        base_url=f"{base_url}/api/v1", headers=bearer(ADMIN_KEY), timeout=PATIENCE, verify=PLAIN_HTTP
    ) as client:
        yield client


@pytest.fixture
def give(admin: httpx.AsyncClient) -> GiveKey:
    """Makes a key and returns the answer about it."""

    async def give(**body: Any) -> dict[str, Any]:
        answer = await admin.post("/admin/keys", json={"name": "a team"} | body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    return give


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
