"""Time limits for the database, and connections that keep to them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from compute.db.away import NoAnswer, NotConnected

__all__ = ["Patience", "PatientConnection", "ThreadConnection", "connect", "connect_thread"]

T = TypeVar("T")

_WAKE_SECONDS = 0.1
_OWN = {"max_parallel_workers_per_gather": "0"}
"""No statement of ours is so large that processes of the server should share it: to start them takes longer."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. The server stops a statement after `statement`, and one that waits for a row after `lock`. A server that
    has said nothing for `answer`, which is longer than both, is gone; so is one that takes no connection for `connect`.

    To the server, a client that has said nothing for `idle` in the middle of a transaction is gone: its process is
    stopped, or its node. What it held locked is free again. An upload may be stored meanwhile, which takes a while.
    """

    connect: int = 5
    statement: float = 10.0
    lock: float = 5.0
    answer: float = 15.0
    idle: float = 300.0

    @property
    def settings(self) -> dict[str, str]:
        """The server's settings that say so, and those of all our connections."""
        return _OWN | {
            "statement_timeout": f"{int(self.statement * 1000)}ms",
            "lock_timeout": f"{int(self.lock * 1000)}ms",
            "idle_in_transaction_session_timeout": f"{int(self.idle * 1000)}ms",
        }


class PatientConnection(psycopg.AsyncConnection[TupleRow]):
    """Every wait for the server has an end, also when its machine, or a failover behind its address, has left the
    connection open and silent."""

    answer_seconds: float = Patience().answer

    async def wait(self, gen: PQGen[T], interval: float = _WAKE_SECONDS, timeout: float | None = None) -> T:
        """As psycopg's own, which all its calls come down to. A caller's own `timeout` is left to it.

        Raises:
            NoAnswer: the server was silent for `answer_seconds`; the connection is closed.
        """
        if timeout is not None:
            return await super().wait(gen, interval, timeout)
        began = time.monotonic()
        try:
            return await super().wait(gen, interval, self.answer_seconds)
        except psycopg.OperationalError as error:
            if (silence := _silence(self, error, began)) is not None:
                raise silence from error
            raise


class ThreadConnection(psycopg.Connection[TupleRow]):
    """The same for a thread."""

    answer_seconds: float = Patience().answer

    def wait(self, gen: PQGen[T], interval: float = _WAKE_SECONDS, timeout: float | None = None) -> T:
        """As `PatientConnection.wait`."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        began = time.monotonic()
        try:
            return super().wait(gen, interval, self.answer_seconds)
        except psycopg.OperationalError as error:
            if (silence := _silence(self, error, began)) is not None:
                raise silence from error
            raise


def _silence(
    connection: PatientConnection | ThreadConnection, error: psycopg.OperationalError, began: float
) -> NoAnswer | None:
    """The error to raise for one that a time limit of ours has caused."""
    if error.sqlstate is not None or time.monotonic() - began < connection.answer_seconds:
        return None
    # What the server still had to say would be taken for the answer to the next statement.
    connection.pgconn.finish()
    return NoAnswer(f"no answer for {connection.answer_seconds:g} s")


async def connect(url: str, patience: Patience, *, pooled: bool, **more: Any) -> PatientConnection:
    """A connection in autocommit mode that keeps to `patience`, unless `more` says otherwise. With `pooled` it leads to
    a PgBouncer in transaction mode, where settings hold for one transaction: they are the caller's to make.

    Raises:
        psycopg.OperationalError: there is none.
    """
    with _refusals():
        connection = await PatientConnection.connect(url, **(_arguments(url, patience, pooled=pooled) | more))
    connection.answer_seconds = patience.answer
    return connection


def connect_thread(url: str, patience: Patience, *, pooled: bool) -> ThreadConnection:
    """As `connect`, for a thread."""
    with _refusals():
        connection = ThreadConnection.connect(url, **_arguments(url, patience, pooled=pooled))
    connection.answer_seconds = patience.answer
    return connection


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except psycopg.OperationalError as error:
        if error.sqlstate is None:
            raise NotConnected(str(error)) from error
        raise


def _arguments(url: str, patience: Patience, *, pooled: bool) -> dict[str, Any]:
    given: dict[str, Any] = {
        "autocommit": True,
        "connect_timeout": patience.connect,
        # What was sent and never confirmed: the kernel gives up then, too.
        "tcp_user_timeout": int(patience.answer * 1000),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    if pooled:
        return given | {"prepare_threshold": None}
    # Ours, and after them what the address itself asks for, which is the operator's.
    own = conninfo_to_dict(url).get("options") or ""
    ours = (f"-c {name}={value}" for name, value in patience.settings.items())
    return given | {"options": " ".join([*ours, str(own)]).strip()}
