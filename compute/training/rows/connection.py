"""The connection of a job to the database, made again whenever it breaks: a training outlives a restart of Postgres."""

import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import psycopg

from compute.db.away import DatabaseAway, told_apart
from compute.db.patience import Patience, ThreadConnection, connect_thread
from compute.db.session import libpq_url, set_locally
from compute.errors import Unavailable

__all__ = ["ReportLink"]

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0
_PAUSE_SECONDS = 5.0
_PATIENCE = Patience(statement=20.0, lock=10.0, answer=30.0)


class ReportLink:
    """One connection, for any thread, one statement at a time."""

    def __init__(
        self, database_url: str, patience_seconds: float, *, pooled: bool = False, patience: Patience = _PATIENCE
    ) -> None:
        """`patience_seconds` is how long an absence is waited out, `patience` how long one statement takes at most."""
        self._url = libpq_url(database_url)
        self._pooled = pooled
        self._statement_patience = patience
        self._patience = patience_seconds
        self._lock = threading.Lock()
        self._connection: ThreadConnection | None = None
        self._away_until = 0.0

    def rows(self, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of a statement, which waits while the database is away. It may have run before when the connection
        broke.

        Raises:
            Unavailable: it was away too long.
        """
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return self._execute(statement, values)
            except DatabaseAway as error:
                if time.monotonic() + _RETRY_SECONDS > deadline:
                    raise Unavailable(f"The database was out of reach for {self._patience:g} s.") from error
                _log.warning("a report waits, the database is out of reach: %s", error)
                time.sleep(_RETRY_SECONDS)

    def rows_or_none(self, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]] | None:
        """As `rows`, but None while the database is away; then it is left alone for some seconds."""
        if time.monotonic() < self._away_until:
            return None
        try:
            return self._execute(statement, values)
        except DatabaseAway as error:
            _log.warning("a report is dropped, the database is out of reach: %s", error)
            self._away_until = time.monotonic() + _PAUSE_SECONDS
            return None

    def close(self) -> None:
        """Give the connection back; a later statement makes another one."""
        with self._lock:
            self._drop()

    def _execute(self, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                with told_apart():
                    if self._connection is None or self._connection.closed:
                        self._connection = connect_thread(self._url, self._statement_patience, pooled=self._pooled)
                    # The statements are made of constants.
                    return self._rows(self._connection, statement.encode(), values)
            except DatabaseAway:
                self._drop()
                raise

    def _rows(self, connection: ThreadConnection, statement: bytes, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        if not self._pooled:
            return connection.execute(statement, values).fetchall()
        with connection.transaction():
            connection.execute(set_locally(self._statement_patience.settings))
            return connection.execute(statement, values).fetchall()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()
