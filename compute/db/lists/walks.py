"""Walks: the rows of an index, newest first, of which no more than a given number is examined.

Any condition may be asked of the rows; it decides what a walk finds and not how far it goes. A tenant is
such a condition, too, and the caller's to ask: added from outside, it would make a walk go on without end. Its order
is the whole key of the index, in which equality is spelled as a range: no other index has it, so there is one plan.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Boolean,
    ColumnElement,
    DateTime,
    Select,
    Uuid,
    and_,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.confinement import ALREADY_CONFINED

__all__ = ["Heap", "ListPosition", "Span", "Walked", "follow_indices", "walk", "walked_count"]

_AT_A_TIME = 1000
_BY_INDEX = dict.fromkeys(
    ("enable_seqscan", "enable_bitmapscan", "enable_sort", "enable_incremental_sort", "enable_hashjoin", "jit"), "off"
) | {"enable_mergejoin": "off", "max_parallel_workers_per_gather": "0"}


class ListPosition(NamedTuple):
    """A row in a list by time and id. It stays what it is when the row goes."""

    created_at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class Span:
    """The part of an index on (`column`, created_at, id) in which the column is `value`; without one, an index on
    (created_at, id). `where` is the index's own condition, `also` what else is asked of its rows, and `since` the time
    of the oldest."""

    where: str
    column: Any = None
    value: str | None = None
    also: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Heap:
    """A partial index in an order of its own. A walk is of use only if it sees all of it. `since` as of a `Span`."""

    where: str
    order: tuple[str, ...]
    also: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Walked:
    """The rows that a walk found, newest first. `full`: as much as was asked for. `behind` is where it stopped; None at
    the end. `known`: what is newer than that has been seen."""

    found: Sequence[ListPosition]
    full: bool
    behind: ListPosition | None
    known: bool = True


async def follow_indices(session: AsyncSession, **settings: str) -> None:
    """Let the plans of this transaction follow indices, whatever the statistics say; `settings` are more of the
    server's for it."""
    given = _BY_INDEX | settings
    await session.execute(select(*(func.set_config(name, value, True) for name, value in given.items())))


async def walk(
    session: AsyncSession,
    table: Any,
    along: Span | Heap,
    wanted: Mapping[Any, Sequence[Any]],
    *,
    position: ListPosition | None,
    skip: int = 0,
    limit: int,
    budget: int,
) -> Walked:
    """Up to `limit` rows behind `position` whose columns are as `wanted`, without the first `skip`, of `budget` that
    are examined. Nothing is skipped of a heap."""
    here = [] if position is None else [_before(table, position)]
    matches = and_(true(), *_conditions(table, along, wanted), *(here if isinstance(along, Heap) else ()))
    inner = _examined(table, along, matches, position, budget).subquery("walked")
    fit = func.count().filter(inner.c.matches).over(rows=(None, 0)).label("fit")
    number = func.row_number().over().label("number")
    counted = select(inner.c.id, inner.c.created_at, inner.c.matches, number, fit).subquery("counted")
    found = select(counted.c.id, counted.c.created_at, and_(counted.c.matches, counted.c.fit > skip), counted.c.number)
    found = found.where(or_(and_(counted.c.matches, counted.c.fit > skip), counted.c.number == budget))
    if isinstance(along, Span):
        found = found.limit(limit)
    hits: list[ListPosition] = []
    last: ListPosition | None = None
    async for rows in _parts(session, found, limit):
        hits += [ListPosition(created_at, row_id) for row_id, created_at, fits, _ in rows if fits]
        last = next((ListPosition(created_at, row_id) for row_id, created_at, _, at in rows if at == budget), last)
    if isinstance(along, Heap):
        hits = sorted(hits, reverse=True)[:limit]
        return Walked(hits, len(hits) == limit, hits[-1] if len(hits) == limit else None, known=last is None)
    return Walked(hits, len(hits) == limit, hits[-1] if len(hits) == limit else last)


async def walked_count(
    session: AsyncSession,
    table: Any,
    along: Span,
    wanted: Mapping[Any, Sequence[Any]],
    budget: int,
    position: ListPosition | None = None,
) -> tuple[int, bool]:
    """Count the rows behind `position` that are as `wanted` among the first `budget`, and say whether those were
    all."""
    matches = and_(true(), *_conditions(table, along, wanted))
    inner = _examined(table, along, matches, position, budget + 1).subquery("walked")
    counted = select(func.count().filter(inner.c.matches), func.count())
    counting = counted.select_from(inner)
    found, examined = (await session.execute(counting, execution_options=ALREADY_CONFINED)).one()
    return min(found, budget), examined <= budget


def _examined(
    table: Any, along: Span | Heap, matches: ColumnElement[bool], position: ListPosition | None, budget: int
) -> Select[Any]:
    """The rows that are examined. Limited here: no condition from outside gets below that."""
    rows = select(table.id, table.created_at, matches.label("matches")).limit(budget)
    if along.where:
        # As it stands in the index: of a parameter the planner would not know that it says the same.
        rows = rows.where(text(along.where))
    if isinstance(along, Heap):
        return rows.order_by(*(getattr(table, name) for name in along.order))
    order = [table.created_at, table.id]
    if along.column is not None:
        order.insert(0, along.column)
        # With a time, one comparison of both columns: the walk ends there, instead of passing by what is older.
        rows = rows.where(along.column >= along.value if along.since is None else _from(table, along))
        if position is None:
            rows = rows.where(along.column <= along.value)
    elif along.since is not None:
        rows = rows.where(table.created_at >= along.since)
    if position is not None:
        rows = rows.where(_before(table, position, along.column, along.value))
    return rows.order_by(*(column.desc() for column in order))


def _before(table: Any, position: ListPosition, column: Any = None, value: str | None = None) -> ColumnElement[bool]:
    """One comparison of all columns, which the index answers; a clock's tick may have many rows."""
    columns = [table.created_at, table.id]
    values: list[Any] = [literal(position.created_at, DateTime(timezone=True)), literal(position.id, Uuid())]
    if column is not None:
        columns, values = [column, *columns], [literal(value), *values]
    return tuple_(*columns) < tuple_(*values)


def _from(table: Any, along: Span) -> ColumnElement[bool]:
    values: list[Any] = [literal(along.value), literal(along.since, DateTime(timezone=True))]
    return tuple_(along.column, table.created_at) >= tuple_(*values)


def _conditions(table: Any, along: Span | Heap, wanted: Mapping[Any, Sequence[Any]]) -> list[ColumnElement[bool]]:
    also = [literal_column(f"({along.also})", Boolean())] if along.also else []
    if isinstance(along, Heap) and along.since is not None:
        also.append(table.created_at >= along.since)
    return [*also, *(column.in_(values) for column, values in wanted.items())]


async def _parts(session: AsyncSession, statement: Select[Any], limit: int) -> AsyncIterator[Sequence[Any]]:
    """The rows of a statement; many come some at a time, so that others have their turns."""
    if limit <= _AT_A_TIME:
        yield (await session.execute(statement, execution_options=ALREADY_CONFINED)).all()
    else:
        streamed = await session.stream(statement, execution_options={"yield_per": _AT_A_TIME, **ALREADY_CONFINED})
        async for rows in streamed.partitions():
            yield rows
