"""The database connection of a training job, which reconnects after a restart of Postgres."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from compute.db.away import DatabaseAway
from compute.db.direct import ThreadDirectConnection
from compute.db.patience import Patience, ThreadConnection
from compute.errors import Unavailable

__all__ = ["ReportLink"]

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0
_PAUSE_SECONDS = 5.0
_PATIENCE = Patience(statement=20.0, lock=10.0, answer=30.0)


class ReportLink:
    """One connection, usable from any thread, one statement at a time."""

    def __init__(
        self, database_url: str, patience_seconds: float, *, pooled: bool = False, patience: Patience = _PATIENCE
    ) -> None:
        """`patience_seconds` bounds an absence of the database, `patience` bounds one statement."""
        self._connection = ThreadDirectConnection(database_url, patience, pooled=pooled)
        self._patience = patience_seconds
        self._away_until = 0.0

    def rows(self, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, waiting while the database is away. After a broken connection it may run
        twice.

        Raises:
            Unavailable: the database was away too long.
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
        """Like `rows`, but return None while the database is away, and do not try again for some seconds."""
        if time.monotonic() < self._away_until:
            return None
        try:
            return self._execute(statement, values)
        except DatabaseAway as error:
            _log.warning("a report is dropped, the database is out of reach: %s", error)
            self._away_until = time.monotonic() + _PAUSE_SECONDS
            return None

    def close(self) -> None:
        """Close the connection; a later statement opens a new one."""
        self._connection.close()

    def _execute(self, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        def work(connection: ThreadConnection) -> list[tuple[Any, ...]]:
            # The statements are made of constants.
            return connection.execute(statement.encode(), values).fetchall()

        return self._connection.run(work)
