"""A platform with settings of a test's own, and a stand-in of fal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from compute.settings import Settings
from tests.integration.api.conftest import KEY
from tests.integration.providers.platform import OpenPlatform, Platform, open_platform
from tests.patience import PATIENCE
from tests.providers.standins.fal import Fal


@pytest.fixture
async def fal() -> AsyncIterator[Fal]:
    async with Fal() as stand_in:
        yield stand_in


@pytest.fixture
def opened(database_url: str, tmp_path: Path) -> OpenPlatform:
    """Open a platform with these settings, without a Dispatcher; `model` draws for LOCAL."""

    @asynccontextmanager
    async def opened(model: Any = None, **settings: Any) -> AsyncIterator[Platform]:
        chosen = Settings(
            api_key=KEY,
            database_url=database_url,
            home=tmp_path,
            media_allowed_hosts="127.0.0.1",
            media_timeout_seconds=PATIENCE,
            **settings,
        )
        async with open_platform(chosen, model) as platform:
            yield platform

    return opened
