"""The connection of a job to the database, made again whenever it breaks: a training outlives a restart of Postgres."""

import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import psycopg

from compute.db.session import normal_url
from compute.errors import Unavailable

__all__ = ["ReportLink"]

_log = logging.getLogger(__name__)
_BROKEN = (psycopg.OperationalError, psycopg.InterfaceError)
_RETRY_SECONDS = 1.0
_PAUSE_SECONDS = 5.0
_CONNECTION: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": 5,
    # A server that vanished without a word is noticed.
    "tcp_user_timeout": 20_000,
    "options": "-c statement_timeout=20s -c lock_timeout=10s",
    "application_name": "compute-training",
}


class ReportLink:
    """One connection, for any thread, one statement at a time."""

    def __init__(self, database_url: str, patience_seconds: float) -> None:
        self._url = normal_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._patience = patience_seconds
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
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
            except _BROKEN as error:
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
        except _BROKEN as error:
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
                if self._connection is None or self._connection.closed:
                    self._connection = psycopg.connect(self._url, **_CONNECTION)
                # The statements are made of constants.
                return self._connection.execute(statement.encode(), values).fetchall()
            except _BROKEN:
                self._drop()
                raise

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*_BROKEN):
                connection.close()
