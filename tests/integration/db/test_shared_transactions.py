"""Requests that keep a connection to themselves: so many at a time, so many in line, and the others are told."""

import asyncio

import pytest
from sqlalchemy import text

from compute.api.idempotency.keys import IdempotentRequest, RequestKey
from compute.db.session import Database
from compute.errors import Overloaded
from tests.integration.absent import SERVERS_ALONE
from tests.patience import PATIENCE

IN_LINE = 1000


async def test_a_line_that_is_full_tells_the_next_one(database_url: str) -> None:
    database, go_on = Database(database_url, pool_size=2), asyncio.Event()
    held = asyncio.Semaphore(0)

    async def hold() -> None:
        async with database.shared_transaction() as session:
            await session.execute(text("SELECT 1"))
            held.release()
            await go_on.wait()

    holders = [asyncio.create_task(hold()) for _ in range(2 + IN_LINE)]
    try:
        async with asyncio.timeout(PATIENCE):
            for _ in range(2):
                await held.acquire()
        with pytest.raises(Overloaded, match="being stored at the moment"):
            async with database.shared_transaction():
                pass
        # Everybody else goes on.
        async with database.transaction() as session:
            assert await session.scalar(text("SELECT 1")) == 1
        holders.pop().cancel()
        go_on.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*holders)
        async with database.shared_transaction() as session:
            assert await session.scalar(text("SELECT 1")) == 1
    finally:
        await database.close()


async def test_the_wait_for_another_process_s_key_outlasts_the_limit_of_a_statement(database: Database) -> None:
    brief = Database(database.url.render_as_string(hide_password=False), patience=SERVERS_ALONE)
    request = IdempotentRequest(RequestKey("key", "fingerprint"))

    async def follow() -> int | None:
        async with request.once(brief) as session:
            return await session.scalar(text("SELECT 1"))

    # As another process holds it.
    async with asyncio.timeout(PATIENCE), database.transaction() as session:
        await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('key', 0))"))
        following = asyncio.create_task(follow())
        await session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": 3 * SERVERS_ALONE.statement})
        assert not following.done()
    assert await following == 1
    await brief.close()
