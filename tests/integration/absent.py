"""Ways for the database to be away, and who uses it: each with one call that needs it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import psycopg
from psycopg import sql
from sqlalchemy import text

from compute.db.direct import DirectConnection
from compute.db.patience import Patience
from compute.db.session import Connection, Database
from compute.dispatch.store import PostgresDispatchStore
from compute.errors import Unavailable
from compute.events.notify import Notifier
from compute.tasks.submission.writer import Submission, TaskWriter
from compute.training.rows.connection import ReportLink
from tests.integration.lossy import LossyWire
from tests.integration.rows import new_task
from tests.patience import PATIENCE

SHORT = Patience(connect=2, statement=0.5, lock=0.3, answer=1.0)
SERVERS_ALONE = replace(SHORT, connect=int(PATIENCE), answer=PATIENCE)
"""The server stops what takes long, and its client waits to be told so, however busy the machine is."""

Use = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Scene:
    """A database behind a wire, and a connection of the test's own beside it."""

    wire: LossyWire
    beside: psycopg.AsyncConnection

    async def set(self, setting: str, value: str) -> None:
        name = self.beside.info.dbname
        await self.beside.execute(
            sql.SQL("ALTER DATABASE {} SET {} = {}").format(sql.Identifier(name), sql.SQL(setting), sql.Literal(value))
        )

    async def end_connections(self) -> None:
        await self.beside.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def fall_silent(scene: Scene) -> None:
    scene.wire.hush(deaf=True)


async def speak_again(scene: Scene) -> None:
    scene.wire.deaf = False


async def become_read_only(scene: Scene) -> None:
    await scene.set("default_transaction_read_only", "on")
    await scene.end_connections()


async def become_writable(scene: Scene) -> None:
    await scene.set("default_transaction_read_only", "off")
    await scene.end_connections()


async def refuse(scene: Scene) -> None:
    scene.wire.stay_away, scene.wire.cuts = True, 1
    await scene.end_connections()


async def let_in(scene: Scene) -> None:
    scene.wire.stay_away = False


async def lock_everything(scene: Scene) -> None:
    await scene.beside.execute("BEGIN")
    await scene.beside.execute("LOCK TABLE tasks, dispatchers, trainings, idempotency_keys, webhook_deliveries")


async def unlock(scene: Scene) -> None:
    await scene.beside.execute("ROLLBACK")


Change = Callable[[Scene], Awaitable[None]]
WAYS: dict[str, tuple[Change, Change]] = {
    "silent": (fall_silent, speak_again),
    "read-only": (become_read_only, become_writable),
    "refused": (refuse, let_in),
    "locked": (lock_everything, unlock),
}


@asynccontextmanager
async def scene(database_url: str) -> AsyncIterator[Scene]:
    address = Database(database_url)
    async with (
        LossyWire(database_url).open() as wire,
        await psycopg.AsyncConnection.connect(address.libpq_url, autocommit=True) as beside,
    ):
        yield Scene(wire, beside)
    await address.close()


@asynccontextmanager
async def users(url: str) -> AsyncIterator[dict[str, Use]]:
    """Everybody who writes: a call of each, which returns when it is written and raises `Unavailable` while it is not.
    All of them have used their connections before."""
    async with AsyncExitStack() as stack:
        database = Database(url, patience=SHORT)
        stack.push_async_callback(database.close)
        direct = DirectConnection(database)
        stack.push_async_callback(direct.close)
        store = PostgresDispatchStore(database)
        stack.push_async_callback(store.close)
        writer = TaskWriter(database, Notifier(database), outcome_seconds=0.2)
        stack.push_async_callback(writer.close)
        link = ReportLink(url, patience_seconds=0.0, patience=SHORT)
        stack.callback(link.close)
        found: dict[str, Use] = {
            "a transaction of the API": partial(_touch, database),
            "a shared transaction": partial(_touch_shared, database),
            "a loop's own connection": partial(direct.run, _delete),
            "the Dispatcher's beat": partial(store.beat, "test", {}),
            "the writer of tasks": partial(_submit, writer),
            "the report of a training": partial(
                asyncio.to_thread, link.rows, "UPDATE trainings SET priority = 1 RETURNING id", {}
            ),
        }
        for use in found.values():
            await until_it_works(use)
        yield found


async def until_it_works(use: Use) -> None:
    async with asyncio.timeout(PATIENCE):
        while isinstance((await asyncio.gather(use(), return_exceptions=True))[0], Unavailable):
            await asyncio.sleep(0.05)


async def _touch(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM dispatchers WHERE id = 'nobody'"))


async def _touch_shared(database: Database) -> None:
    async with database.shared_transaction() as session:
        await session.execute(text("DELETE FROM dispatchers WHERE id = 'nobody'"))


async def _delete(connection: Connection) -> None:
    await connection.execute("DELETE FROM dispatchers WHERE id = 'nobody'")


async def _submit(writer: TaskWriter) -> None:
    await writer.submit(Submission([new_task()]))
