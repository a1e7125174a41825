"""Rows by their ids."""

from collections.abc import Iterable
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Uuid, any_, literal
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.tables.base import Base
from compute.errors import NotFound

__all__ = ["get_row", "lock_row", "one_of"]

RowT = TypeVar("RowT", bound=Base)


async def get_row(session: AsyncSession, table: type[RowT], row_id: UUID) -> RowT:
    """The row of this id, such as `get_row(session, Task, task_id)`.

    Raises:
        NotFound: there is none.
    """
    return _found(await session.get(table, row_id), table, row_id)


async def lock_row(session: AsyncSession, table: type[RowT], row_id: UUID) -> RowT:
    """The row of this id, read anew and locked until the transaction ends.

    Raises:
        NotFound: there is none.
    """
    row = await session.get(table, row_id, populate_existing=True, with_for_update=True)
    return _found(row, table, row_id)


def _found(row: RowT | None, table: type[RowT], row_id: UUID) -> RowT:
    if row is None:
        raise NotFound(f"There is no {table.__name__.lower()} {row_id}.")
    return row


def one_of(column: Any, ids: Iterable[UUID]) -> ColumnElement[bool]:
    """Whether a column is one of these ids, however many. They go as one value: a statement can have 65,535."""
    known: ColumnElement[bool] = column == any_(literal(list(ids), ARRAY(Uuid())))
    return known
