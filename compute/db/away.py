"""The one definition of "the database is away", and of what is told apart from it.

    DatabaseAway          the database cannot do it now, whatever is asked of it; a later try may succeed
    └── RowLocked         it is there, but somebody keeps a row locked: only what needs that row has to wait
    └── StatementTooSlow  it is there, but this statement ran out of its time

What the database refuses for its content (a value that it cannot store, say) is neither, and stays the driver's error.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from compute.errors import Unavailable

__all__ = ["AwayReason", "DatabaseAway", "RowLocked", "StatementTooSlow", "away", "told_apart"]


class AwayReason(StrEnum):
    """In which way the database is away; for logs and readiness."""

    UNREACHABLE = "no connection could be made"
    LOST = "the connection was lost"
    SILENT = "the connection has fallen silent"
    SHUTTING_DOWN = "the server is shutting down or starting"
    READ_ONLY = "the server takes no writes"
    FULL = "the server has no connection or memory left"
    POOL_EXHAUSTED = "all connections of this process are in use"
    LOCKED = "a row is locked"
    SLOW = "a statement took too long"


class DatabaseAway(Unavailable):
    """`in_doubt`: whether the statement that met it took effect is not known; otherwise it did not.

    `detail` is for clients, `reason` and the error's cause for operators.
    """

    def __init__(
        self,
        detail: str = "The database does not answer; try again.",
        *,
        reason: AwayReason = AwayReason.LOST,
        told: str = "",
        in_doubt: bool = True,
    ) -> None:
        super().__init__(detail, reason=reason, told=told, in_doubt=in_doubt)
        self.reason = reason
        self.told = told
        self.in_doubt = in_doubt

    def __str__(self) -> str:
        return f"{self.reason}: {self.told}" if self.told else str(self.reason)


class RowLocked(DatabaseAway):
    """Somebody kept a row locked for longer than the statement may wait, or the server broke a circle of waits.

    The statement had no effect.
    """

    def __init__(
        self,
        detail: str = "Somebody else is changing this at the moment; try again.",
        *,
        reason: AwayReason = AwayReason.LOCKED,
        told: str = "",
        in_doubt: bool = False,
    ) -> None:
        super().__init__(detail, reason=reason, told=told, in_doubt=in_doubt)


class StatementTooSlow(DatabaseAway):
    """The server stopped the statement at its time limit; it had no effect."""

    def __init__(
        self,
        detail: str = "The database took too long for this; try again later, or ask for less.",
        *,
        reason: AwayReason = AwayReason.SLOW,
        told: str = "",
        in_doubt: bool = False,
    ) -> None:
        super().__init__(detail, reason=reason, told=told, in_doubt=in_doubt)


class NoAnswer(psycopg.OperationalError):
    """The server said nothing for as long as a connection waits; the connection is closed."""


class NotConnected(psycopg.OperationalError):
    """No server took the connection."""


# SQLSTATE, by its first characters; the longest that fits counts.
_REASONS = {
    "08": AwayReason.LOST,
    "25006": AwayReason.READ_ONLY,
    "25P03": AwayReason.LOST,
    "25P04": AwayReason.LOST,
    "40": AwayReason.LOCKED,
    "53": AwayReason.FULL,
    "55P03": AwayReason.LOCKED,
    "57014": AwayReason.SLOW,
    "57P": AwayReason.SHUTTING_DOWN,
    "58": AwayReason.LOST,
}
_LONGEST_TOLD = 300


def away(error: BaseException) -> DatabaseAway | None:
    """Why the database is away, by an error of psycopg or SQLAlchemy; None when a statement's content is the cause."""
    if isinstance(error, DatabaseAway):
        return error
    if isinstance(error, PoolTimeoutError):
        return DatabaseAway(reason=AwayReason.POOL_EXHAUSTED)
    # The driver's own words: SQLAlchemy's would repeat the statement with its values.
    cause: Any = error.orig if isinstance(error, DBAPIError) else error
    reason = _reason(cause)
    if reason is None:
        return None
    kind = {AwayReason.LOCKED: RowLocked, AwayReason.SLOW: StatementTooSlow}.get(reason, DatabaseAway)
    return kind(reason=reason, told=" ".join(str(cause).split())[:_LONGEST_TOLD])


def _reason(cause: Any) -> AwayReason | None:
    if isinstance(cause, NoAnswer):
        return AwayReason.SILENT
    if isinstance(cause, NotConnected | psycopg.errors.ConnectionTimeout):
        return AwayReason.UNREACHABLE
    if not isinstance(cause, psycopg.Error):
        return None
    if (state := cause.sqlstate) is not None:
        return next((_REASONS[state[:n]] for n in (5, 3, 2) if state[:n] in _REASONS), None)
    # Without a state nobody on the other side has answered.
    return AwayReason.LOST if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError) else None


@contextmanager
def told_apart() -> Iterator[None]:
    """Turn what the driver raises inside the block into `DatabaseAway` where it is that.

    Raises:
        DatabaseAway: the database is away, or (`RowLocked`, `StatementTooSlow`) does not do this in time.
    """
    try:
        yield
    except (psycopg.Error, DBAPIError, PoolTimeoutError) as error:
        if (trouble := away(error)) is None:
            raise
        raise trouble from error
