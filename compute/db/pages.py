"""Pages of rows that are listed newest first: behind a row, by an index, and read without holding anybody up."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import DateTime, Select, Uuid, literal, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

__all__ = ["Place", "newest_first", "rows_of"]

_AT_A_TIME = 100


@dataclass(frozen=True, slots=True)
class Place:
    """A row in a list by time and id. It stays what it is when the row goes."""

    created_at: datetime
    id: UUID


class _Dated(Protocol):
    created_at: InstrumentedAttribute[datetime]
    id: InstrumentedAttribute[UUID]


def newest_first(statement: Select[Any], row: Any, place: Place | None, *, skip: int, limit: int) -> Select[Any]:
    """`statement` with its rows newest first, those behind `place`, without the first `skip`, at most `limit`.

    `row` is the class of the table, which needs an index on both columns, descending.
    """
    table: _Dated = row
    if place is not None:
        # One comparison of both, which the index answers; a clock's tick may have many rows.
        here = tuple_(literal(place.created_at, DateTime(timezone=True)), literal(place.id, Uuid()))
        statement = statement.where(tuple_(table.created_at, table.id) < here)
    return statement.order_by(table.created_at.desc(), table.id.desc()).offset(skip).limit(limit)


async def rows_of(session: AsyncSession, statement: Select[Any], limit: int) -> list[Any]:
    """The rows of a statement; many are read some at a time, because to make objects of them takes a while."""
    if limit <= _AT_A_TIME:
        return list(await session.scalars(statement))
    streamed = await session.stream_scalars(statement, execution_options={"yield_per": _AT_A_TIME})
    return [row async for row in streamed]
