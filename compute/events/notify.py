"""PostgreSQL NOTIFY, as a hint and never as the truth: polling finds whatever a lost notification told of.

NOTIFY takes a lock for the whole server at commit, so it is sent outside the transactions that matter, on a
connection of its own, and a burst of submits makes one notification.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from functools import partial

from psycopg import sql

from compute.db.away import DatabaseAway, told_apart
from compute.db.direct import DirectConnection
from compute.db.patience import Patience, connect
from compute.db.session import Connection, Database

__all__ = ["CANCELLED", "ENDED", "READY", "TRAINING", "WORKFLOW", "Notifier", "listen", "waking"]

READY = "compute_ready"
CANCELLED = "compute_cancelled"
ENDED = "compute_ended"
WORKFLOW = "compute_workflow"
TRAINING = "compute_training"

_log = logging.getLogger(__name__)
_RECONNECT_SECONDS = 1.0
_QUIET_SECONDS = 5.0
_NOTIFY = "SELECT pg_notify(channel, payload) FROM unnest(%s::text[], %s::text[]) AS hint (channel, payload)"


class Notifier:
    """Sends notifications from a background task. `notify` only notes one, for after the commit, and returns."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection = DirectConnection(database)
        self._pending: set[tuple[str, str]] = set()
        self._wake = asyncio.Event()

    def notify(self, channel: str, payload: str = "") -> None:
        self._database.after_commit(partial(self._note, channel, payload))

    def _note(self, channel: str, payload: str) -> None:
        self._pending.add((channel, payload))
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled; a lost connection loses notifications, which polling makes good."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                pending, self._pending = self._pending, set()
                try:
                    await self._connection.run(partial(_send, pending))
                except DatabaseAway as error:
                    _log.warning("notifications paused, the database is out of reach: %s", error)
                    await asyncio.sleep(_RECONNECT_SECONDS)
        finally:
            await self._connection.close()


async def _send(notifications: Collection[tuple[str, str]], connection: Connection) -> None:
    channels, payloads = zip(*notifications, strict=True)
    await connection.execute(_NOTIFY, (list(channels), list(payloads)))


async def listen(
    database: Database,
    channels: Sequence[str],
    on_notify: Callable[[str, str], None],
    *,
    quiet_seconds: float = _QUIET_SECONDS,
) -> None:
    """Call `on_notify(channel, payload)` for every hint on `channels` until cancelled, reconnecting as needed.

    After `quiet_seconds` without one it asks whether the server is still there.

    Behind a pooler nobody can listen: without the server's own address this waits, and polling does all.
    """
    if (url := database.listening_url) is None:
        _log.info("no notifications: COMPUTE_DATABASE_DIRECT_URL is not set, and the database is behind a pooler")
        await asyncio.Event().wait()
        return
    while True:
        try:
            with told_apart():
                async with _listening(url, database.patience, channels) as connection:
                    await _hear(connection, on_notify, quiet_seconds)
        except DatabaseAway as error:
            _log.warning("listening paused, the database is out of reach: %s", error)
        await asyncio.sleep(_RECONNECT_SECONDS)


async def _hear(connection: Connection, on_notify: Callable[[str, str], None], quiet_seconds: float) -> None:
    while True:
        async for hint in connection.notifies(timeout=quiet_seconds):
            on_notify(hint.channel, hint.payload)
        # Nobody has anything to say, or nobody is there any more.
        await connection.execute("SELECT")


def waking(database: Database, channels: Sequence[str]) -> Callable[[Callable[[], None]], Awaitable[None]]:
    """A listener that calls a function at every notification on `channels`, until cancelled."""

    async def listen_on(wake: Callable[[], None]) -> None:
        await listen(database, channels, lambda _channel, _payload: wake())

    return listen_on


@contextlib.asynccontextmanager
async def _listening(url: str, patience: Patience, channels: Sequence[str]) -> AsyncIterator[Connection]:
    async with await connect(url, patience, pooled=False) as connection:
        for channel in channels:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        yield connection
