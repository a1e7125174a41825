"""The database is away in every way that it can be: everybody says so in time, and goes on when it is back."""

import asyncio

import pytest

from compute.db.away import DatabaseAway, RowLocked, StatementTooSlow
from compute.db.direct import DirectConnection
from compute.db.session import Connection, Database
from compute.errors import Unavailable
from compute.events import notify
from tests.integration.absent import SERVERS_ALONE, SHORT, WAYS, scene, until_it_works, users
from tests.patience import NEVER, PATIENCE


@pytest.mark.parametrize("way", WAYS)
async def test_everybody_notices_and_goes_on(database_url: str, way: str) -> None:
    leave, come_back = WAYS[way]
    async with scene(database_url) as played, users(played.wire.url) as calls:
        await leave(played)
        async with asyncio.timeout(PATIENCE):
            outcomes = await asyncio.gather(*(use() for use in calls.values()), return_exceptions=True)
        told = {name: isinstance(error, Unavailable) for name, error in zip(calls, outcomes, strict=True)}
        assert told == dict.fromkeys(calls, True), outcomes
        await come_back(played)
        for use in calls.values():
            await until_it_works(use)


async def test_a_locked_row_is_told_from_a_slow_statement_and_both_from_an_absence(database: Database) -> None:
    brief = Database(database.url.render_as_string(hide_password=False), patience=SERVERS_ALONE)
    link, holder = DirectConnection(brief), await database.connect(autocommit=False)

    async def sleep(connection: Connection) -> None:
        await connection.execute("SELECT pg_sleep(100)")

    async def write(connection: Connection) -> None:
        await connection.execute("DELETE FROM dispatchers")

    try:
        await holder.execute("LOCK TABLE dispatchers")
        with pytest.raises(RowLocked):
            await link.run(write)
        with pytest.raises(StatementTooSlow):
            await link.run(sleep)
        # What the server refuses for its content is neither.
        with pytest.raises(Exception, match="division by zero") as refused:
            await link.run(_divide)
        assert not isinstance(refused.value, DatabaseAway)
    finally:
        await holder.close()
        await link.close()
        await brief.close()


async def _divide(connection: Connection) -> None:
    await connection.execute("SELECT 1 / 0")


async def test_a_listener_whose_connection_falls_silent_listens_again(database_url: str) -> None:
    heard = asyncio.Event()
    async with scene(database_url) as played:
        database = Database(played.wire.url, patience=SHORT)
        listening = asyncio.create_task(
            notify.listen(database, [notify.READY], lambda _channel, _payload: heard.set(), quiet_seconds=0.2)
        )
        try:
            for _ in range(2):
                heard.clear()
                async with asyncio.timeout(PATIENCE):
                    while not heard.is_set():
                        await played.beside.execute("SELECT pg_notify(%s, '')", (notify.READY,))
                        await asyncio.sleep(0.05)
                played.wire.hush()
        finally:
            listening.cancel()
            await asyncio.wait([listening])
            await database.close()


async def test_a_connection_may_stop_its_statements_sooner_than_others(database: Database) -> None:
    hasty = DirectConnection(database, statement_seconds=0.1)

    async def wait(connection: Connection) -> None:
        await connection.execute("SELECT pg_sleep(%s)", [NEVER])

    with pytest.raises(StatementTooSlow):
        await hasty.run(wait)
    await hasty.close()
