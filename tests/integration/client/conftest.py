"""The client against the real API on a socket, with a Dispatcher and workers in the same process."""

from collections.abc import AsyncIterator

import pytest

from compute.client import AsyncCompute
from tests.integration.api.conftest import (
    KEY,
    base_url,
    painter,
    settings,
    storage_settings,
    worker,
)

__all__ = ["base_url", "client", "painter", "settings", "storage_settings", "worker"]


@pytest.fixture
async def client(base_url: str) -> AsyncIterator[AsyncCompute]:
    """An asynchronous client with the right key."""
    async with AsyncCompute(base_url, KEY) as opened:
        yield opened
