"""The locks of migrations.

Whoever waits for a strong lock holds up everybody who comes behind, readers too. So each statement waits a moment only;
a migration that does not get its locks in that moment is undone as a whole, and tried again after a pause. Statements
that work beside others (CONCURRENTLY) hold nobody up and may wait as long as it takes.
"""

import logging
import random
import re
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError

__all__ = ["LocksUnavailable", "try_until_locked", "wait_briefly"]

_log = logging.getLogger(__name__)

_LOCK_TIMEOUT = "1s"
_CONCURRENTLY = re.compile(r"\bCONCURRENTLY\b", re.IGNORECASE)
_BUILD = re.compile(r"\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?(\S+)", re.IGNORECASE)

_NOT_NOW = frozenset({"55P03", "40P01"})
"""Lock not available, and a deadlock, which ends one of those in it."""
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0

# A name may stand for several; those of the server itself hold no table.
_OLDEST = """
SELECT pid, coalesce(nullif(application_name, ''), usename, '?') AS who, state,
       round(extract(epoch FROM clock_timestamp() - xact_start)) AS seconds
  FROM pg_stat_activity
 WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
   AND backend_type = 'client backend'
 ORDER BY xact_start LIMIT 1
"""


class LocksUnavailable(Exception):
    """Others held what a migration needs all the time. The schema is that of the last migration that was finished."""


def wait_briefly(engine: Engine) -> None:
    """Bound every wait of the engine's statements for a lock, and clear what a broken-off index build left behind."""
    event.listen(engine, "before_cursor_execute", _bound)


def _bound(
    connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> None:
    beside_others = _CONCURRENTLY.search(statement) is not None
    # An index of a large table takes longer than whatever the address says that a statement may.
    cursor.execute(f"SET lock_timeout = '{0 if beside_others else _LOCK_TIMEOUT}'; SET statement_timeout = 0")
    if built := _BUILD.match(statement):
        _drop_if_broken_off(cursor, built[1])


def _drop_if_broken_off(cursor: Any, index: str) -> None:
    """A build that fails leaves an index that is never used, and costs every write."""
    cursor.execute("SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid", [index])
    if cursor.fetchone():
        cursor.execute(f"DROP INDEX CONCURRENTLY {index}")


def try_until_locked(migrate: Callable[[], None], guard: Connection, patience_seconds: float) -> None:
    """Call `migrate` until it gets its locks; `guard` is a connection to ask who has them.

    Raises:
        LocksUnavailable: it did not within `patience_seconds`.
    """
    deadline = time.monotonic() + patience_seconds
    pause = _FIRST_PAUSE
    while True:
        try:
            return migrate()
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) not in _NOT_NOW:
                raise
            holder = _oldest(guard)
            if time.monotonic() >= deadline:
                raise LocksUnavailable(
                    f"A migration did not get its locks in {patience_seconds:.0f} s{holder}."
                ) from error
            _log.warning("a migration did not get its locks, trying again%s", holder)
        # Jittered, so that it does not keep time with work that comes round regularly.
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
        pause = min(2 * pause, _LONGEST_PAUSE)


def _oldest(guard: Connection) -> str:
    """The likeliest reason, in words."""
    found = guard.execute(text(_OLDEST)).first()
    if found is None:
        return ""
    return f"; the oldest transaction is that of {found.who} (process {found.pid}, {found.state}, {found.seconds} s)"
