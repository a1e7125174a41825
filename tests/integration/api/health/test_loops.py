"""A loop of the ingress that ends is begun again, and /health says that it ended."""

import asyncio

from sqlalchemy import text

from compute.api.health.readiness import Readiness
from compute.api.loops import Loops
from compute.db.patience import Patience
from compute.db.session import Database
from compute.requests.serving import Serving
from compute.settings import Settings
from compute.storage.factory import open_store
from tests.integration.lossy import LossyWire
from tests.patience import NEVER, PATIENCE


async def test_a_loop_that_ends_is_begun_again_and_told() -> None:
    runs, loops = asyncio.Queue[int](), Loops(pause_seconds=0.0, forgiven_seconds=NEVER)

    async def loop() -> None:
        await runs.put(1)
        raise ZeroDivisionError

    loops.keep("dividing", loop)
    async with asyncio.timeout(PATIENCE):
        for _ in range(3):
            await runs.get()
    assert loops.failing() == {"dividing": "ended: ZeroDivisionError"}
    await loops.close()


async def test_an_end_is_forgiven_after_a_while() -> None:
    loops, ended = Loops(pause_seconds=NEVER, forgiven_seconds=0.01), asyncio.Event()

    async def loop() -> None:
        ended.set()

    loops.keep("returning", loop)
    async with asyncio.timeout(PATIENCE):
        await ended.wait()
        while loops.failing():
            await asyncio.sleep(0.01)
    await loops.close()


async def test_a_loop_that_only_observes_is_begun_again_and_no_reason_to_be_unready() -> None:
    runs, loops = asyncio.Queue[int](), Loops(pause_seconds=0.0, forgiven_seconds=NEVER)

    async def loop() -> None:
        await runs.put(1)
        raise ZeroDivisionError

    loops.observe("observing", loop)
    async with asyncio.timeout(PATIENCE):
        for _ in range(3):
            await runs.get()
    assert loops.failing() == {}
    await loops.close()


async def test_readiness_tells_of_it(database: Database, settings: Settings) -> None:
    loops = Loops(pause_seconds=0.0)
    readiness = Readiness(database, open_store(settings), Serving({}), loops)
    assert await readiness.check() == {"storage": "ok", "database": "ok", "dispatcher": "none has reported for 10 s"}
    loops.keep("failing", _fail)
    async with asyncio.timeout(PATIENCE):
        while "loop failing" not in await readiness.check():
            await asyncio.sleep(0.01)
    await loops.close()


async def _fail() -> None:
    raise ZeroDivisionError


async def test_a_database_that_says_nothing_is_told_of_and_holds_one_connection(
    database_url: str, settings: Settings
) -> None:
    async with LossyWire(database_url).open() as wire:
        database = Database(wire.url, patience=Patience(connect=2, answer=NEVER))
        patient, readiness = (
            Readiness(database, open_store(settings), Serving({}), Loops(), patience_seconds=seconds)
            for seconds in (PATIENCE, 0.2)
        )
        assert (await patient.check())["database"] == "ok"
        await patient.close()
        wire.hush(deaf=True)
        for _ in range(20):
            assert (await readiness.check())["database"] == "no answer within 0.2 s"
        assert wire.connections == 1
        await readiness.close()
        await database.close()


async def test_a_database_that_takes_no_writes_is_told_of(database: Database, settings: Settings) -> None:
    async with database.transaction() as session:
        name = await session.scalar(text("SELECT current_database()"))
        await session.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    reading = Database(database.url.render_as_string(hide_password=False))
    readiness = Readiness(reading, open_store(settings), Serving({}), Loops())
    assert (await readiness.check())["database"] == "it takes no writes"
    await reading.close()
