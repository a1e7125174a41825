"""Rows of quotas that somebody keeps locked hold up the requests of their key alone."""

import asyncio
from uuid import UUID

import psycopg
import pytest

from compute.db.session import libpq_url
from tests.integration.api.access.conftest import GiveKey
from tests.integration.api.access.scene import client
from tests.integration.api.access.test_limits import at_once, key_with


@pytest.mark.parametrize("limit", ["concurrent_tasks", "tasks_per_day"])
async def test_a_key_whose_use_is_kept_locked_holds_up_itself_alone(
    base_url: str, give: GiveKey, limit: str, database_url: str
) -> None:
    keys = [await key_with(give, **{limit: 100}), await key_with(give, tenant="other", **{limit: 100})]
    keys.append(str((await give(scope="operate"))["key"]))
    async with (
        client(base_url, keys[0]) as locked,
        client(base_url, keys[1]) as other,
        client(base_url, keys[2]) as free,
    ):
        assert await at_once([locked, other, free], 1) == [201] * 3
        with psycopg.connect(libpq_url(database_url)) as holder:
            subject = f"key:{UUID(hex=keys[0].split('_')[1])}"
            found = holder.execute("SELECT FROM quota_uses WHERE subject = %s FOR UPDATE", (subject,))
            assert found.rowcount == 1
            waiting = asyncio.create_task(at_once([locked], 3))
            assert await at_once([other, free], 20) == [201] * 40
            assert await at_once([other, free], 20) == [201] * 40
        assert set(await waiting) <= {201, 503}
        assert await at_once([locked], 1) == [201]
