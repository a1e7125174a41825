"""Rows that a caller may see."""

from typing import TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.keys import get_row
from compute.db.tables import Task, Workflow
from compute.errors import NotFound

__all__ = ["owned_row"]

RowT = TypeVar("RowT", Task, Workflow)


async def owned_row(session: AsyncSession, table: type[RowT], row_id: UUID, tenant: str | None) -> RowT:
    """The row of this id; with `tenant`, if it is that tenant's.

    Raises:
        NotFound: there is none.
    """
    row = await get_row(session, table, row_id)
    if tenant is not None and row.origin_tenant_id != tenant:
        # As if there were none: that there is one is nothing for others to know.
        raise NotFound(f"There is no {table.__name__.lower()} {row_id}.")
    return row
