"""Keys while something goes wrong with some of them: whoever waits is answered, and known keys go on."""

import asyncio
from uuid import UUID

import httpx
import psycopg
import pytest
from sqlalchemy import text, update

from compute.api.access.ring import KeyRing
from compute.api.access.tokens import new_secret, token_text
from compute.db.session import Database, libpq_url
from compute.db.tables import ApiKey
from compute.errors import Overloaded, Unavailable
from compute.settings import Settings
from compute.tasks.ids import new_task_id
from tests.integration.absent import SHORT, let_in, refuse, scene
from tests.integration.api.access.conftest import GiveKey, bearer
from tests.integration.api.conftest import serving_api
from tests.integration.lossy import LossyWire
from tests.patience import NEVER, PATIENCE
from tests.servers import PLAIN_HTTP

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
        assert await ring.is_valid(newer["key"]), "its open streams go on"
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


async def test_without_the_database_what_was_known_of_a_key_is_remembered_for_those_who_ask_for_that(
    database_url: str, give: GiveKey
) -> None:
    made = await give(limits={"requests_per_minute": 60})
    async with LossyWire(database_url).open() as wire:
        away = Database(wire.url, patience=SHORT)
        ring = KeyRing(away, believed_seconds=0.0)
        forgetful = KeyRing(away, believed_seconds=0.0, remembered_seconds=0.0)
        for one in (ring, forgetful):
            caller = await one.caller(made["key"], remembered=True)
            assert caller is not None
            assert caller.rates
        wire.hush(deaf=True)
        for one, key in [(ring, unknown()), (forgetful, made["key"])]:
            with pytest.raises(Unavailable):
                await one.caller(key, remembered=True)
        with pytest.raises(Unavailable):
            await ring.caller(made["key"])
        caller = await ring.caller(made["key"], remembered=True)
        assert caller is not None
        assert caller.rates == (), "nobody could count them"
        assert await ring.caller(f"{made['prefix']}_{'x' * 43}", remembered=True) is None
        wire.deaf = False
        await ring.close()
        await away.close()


async def test_metrics_tell_that_the_database_is_away_whatever_key_scrapes_them(
    settings: Settings, database_url: str, give: GiveKey
) -> None:
    key = (await give(scope="read", limits={"requests_per_minute": 60}))["key"]
    async with (
        scene(database_url) as around,
        serving_api(settings.model_copy(update={"database_url": around.wire.url})) as url,
        httpx.AsyncClient(base_url=url, headers=bearer(key), timeout=PATIENCE, verify=PLAIN_HTTP) as api,
    ):
        assert "compute_database_up 1" in (await api.get("/metrics")).text
        await refuse(around)
        async with asyncio.timeout(PATIENCE):
            while (await api.get("/api/v1/tasks/")).status_code != 503:
                await asyncio.sleep(0.1)
            while "compute_database_up 0" not in (scraped := await api.get("/metrics")).text:
                await asyncio.sleep(0.1)
        assert scraped.status_code == 200
        assert (await api.get("/metrics", headers=bearer(unknown()))).status_code == 503
        await let_in(around)
