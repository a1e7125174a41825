"""The database goes away under the sender."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from compute.db.session import Database
from tests.integration.absent import SHORT, WAYS, scene
from tests.integration.webhooks.receiver import (
    QUICK,
    Receiver,
    attempts,
    enqueue,
    eventually,
    receiving,
    sending,
    until_received,
    until_status,
)


class Outage:
    """Closes one database to everybody and throws out who is in."""

    def __init__(self, server: URL, database: str) -> None:
        self._address = server.set(drivername="postgresql").render_as_string(hide_password=False)
        self._database = database

    def __call__(self) -> AbstractContextManager[None]:
        return self._outage()

    @contextmanager
    def _outage(self) -> Iterator[None]:
        with psycopg.connect(self._address, autocommit=True) as connection:
            self._allow(connection, False)
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [self._database]
            )
            try:
                yield
            finally:
                self._allow(connection, True)

    def _allow(self, connection: psycopg.Connection[tuple[object, ...]], allowed: bool) -> None:
        connection.execute(
            sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}").format(
                sql.Identifier(self._database), sql.Literal(allowed)
            )
        )


async def until_logged(caplog: pytest.LogCaptureFixture, words: str) -> None:
    """Until this is in the log: what comes of an outage has come."""

    async def told() -> bool:
        return words in caplog.text

    await eventually(told)


@pytest.fixture
def outage(postgres: URL, database_url: str) -> Outage:
    return Outage(postgres, str(make_url(database_url).database))


async def test_sending_goes_on_after_an_outage(
    database: Database, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving(Receiver()) as receiver:
        [sent] = await enqueue(database, receiver.url)
        with outage():
            sender = sending(database)
            running = await sender.__aenter__()
            await until_logged(caplog, "the database is out of reach")
            assert not running.done()
            assert receiver.received == []
        await until_status(database, sent, "DELIVERED")
        await sender.__aexit__(None, None, None)


async def test_an_answer_that_comes_during_an_outage_is_not_asked_for_twice(
    database: Database, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving(Receiver(delay=0.3)) as receiver, sending(database):
        [sent] = await enqueue(database, receiver.url)
        await until_received(receiver)
        with outage():
            await until_logged(caplog, "writes wait, the database is out of reach")
        await until_status(database, sent, "DELIVERED")
    assert receiver.ids() == [sent]
    assert len(await attempts(database, sent)) == 1


async def test_stopping_does_not_lose_an_answer(
    database: Database, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving(Receiver(delay=0.2)) as receiver, sending(database) as running:
        [sent] = await enqueue(database, receiver.url)
        await until_received(receiver)
        with outage():
            await until_logged(caplog, "writes wait, the database is out of reach")
            running.cancel()
            await asyncio.sleep(0.2)
        await until_status(database, sent, "DELIVERED")
    assert receiver.ids() == [sent]


@pytest.mark.parametrize("way", WAYS)
async def test_no_loop_of_the_sender_ends_however_the_database_is_away(
    database: Database, database_url: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    leave, come_back = WAYS[way]
    # Looking for what is too old is a write, too: so even an idle sender notices.
    policy = replace(QUICK, expire=0.05)
    async with scene(database_url) as played, receiving(Receiver()) as receiver:
        away = Database(played.wire.url, patience=SHORT)
        # A claim whose answer is lost holds for no longer than a test waits.
        async with sending(away, policy=policy, timeout_seconds=5.0) as running:
            [sent] = await enqueue(database, receiver.url)
            await until_status(database, sent, "DELIVERED")
            await leave(played)
            await until_logged(caplog, "the database is out of reach")
            await come_back(played)
            assert not running.done()
            [sent] = await enqueue(database, receiver.url)
            await until_status(database, sent, "DELIVERED")
        await away.close()
