"""Keys while something goes wrong with some of them: whoever waits is answered, and known keys go on."""

import asyncio
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text, update

from compute.api.access.ring import KeyRing
from compute.api.access.tokens import new_secret, token_text
from compute.db.session import Database, libpq_url
from compute.db.tables import ApiKey
from compute.errors import Overloaded, Unavailable
from compute.tasks.ids import new_task_id
from tests.integration.api.access.conftest import GiveKey
from tests.patience import NEVER, PATIENCE

CROWD = 2_500
"""More than a process looks for at a time."""


def unknown() -> str:
    return token_text(new_task_id(), new_secret()[0])


async def test_a_key_that_this_version_cannot_read_is_unavailable_and_holds_up_no_other(
    database: Database, give: GiveKey
) -> None:
    newer, other = await give(), await give()
    async with database.transaction() as session:
        await session.execute(update(ApiKey).where(ApiKey.id == UUID(newer["id"])).values(scope="observe"))
    ring = KeyRing(database, believed_seconds=0.0)
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            found = await asyncio.gather(
                *(ring.caller(key) for key in (newer["key"], other["key"], f"{newer['prefix']}_{'x' * 43}")),
                return_exceptions=True,
            )
            assert isinstance(found[0], Unavailable)
            assert getattr(found[1], "key_id", None) == UUID(other["id"])
            assert found[2] is None, "whoever has not the secret is told nothing of it"
        assert await ring.is_valid(UUID(newer["id"])), "its open streams go on"
    await ring.close()


async def test_after_an_error_that_nobody_expected_everybody_is_answered_and_the_next_read_works(
    database: Database, give: GiveKey
) -> None:
    key = (await give())["key"]
    ring = KeyRing(database)
    async with database.transaction() as session:
        await session.execute(text("ALTER TABLE api_keys RENAME TO restored"))
    asked = [key, *(unknown() for _ in range(600))]
    async with asyncio.timeout(PATIENCE):
        found = await asyncio.gather(*(ring.caller(one) for one in asked), return_exceptions=True)
        assert {type(one) for one in found} == {Unavailable}
        async with database.transaction() as session:
            await session.execute(text("ALTER TABLE restored RENAME TO api_keys"))
        assert await ring.caller(key) is not None
    await ring.close()


async def test_whoever_waits_when_the_process_stops_is_answered(database: Database, database_url: str) -> None:
    ring = KeyRing(database)
    async with await psycopg.AsyncConnection.connect(libpq_url(database_url)) as other:
        await other.execute("LOCK TABLE api_keys")
        waiting = [asyncio.create_task(ring.caller(unknown())) for _ in range(600)]
        await asyncio.sleep(0)
        await ring.close()
        async with asyncio.timeout(PATIENCE):
            found = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(one) for one in found} == {Unavailable}


@pytest.mark.parametrize("believed_seconds", [NEVER, 0.0], ids=["believed", "to be read again"])
async def test_a_crowd_of_unknown_keys_refuses_none_that_is_known(
    database: Database, database_url: str, give: GiveKey, believed_seconds: float
) -> None:
    key = (await give())["key"]
    ring = KeyRing(database, fresh_seconds=0.0, believed_seconds=believed_seconds)
    assert await ring.caller(key) is not None
    async with await psycopg.AsyncConnection.connect(libpq_url(database_url)) as other:
        await other.execute("LOCK TABLE api_keys")
        crowd = [asyncio.create_task(ring.caller(unknown())) for _ in range(CROWD)]
        async with asyncio.timeout(PATIENCE):
            while not any(one.done() for one in crowd):
                await asyncio.sleep(0)
        asked = asyncio.create_task(ring.caller(key))
        await asyncio.sleep(0)
        await other.rollback()
        async with asyncio.timeout(PATIENCE):
            assert await asked is not None
            assert not all(one.done() for one in crowd), "it is read before those who came earlier"
            found = await asyncio.gather(*crowd, return_exceptions=True)
    assert [one for one in found if isinstance(one, Overloaded)]
    await ring.close()
