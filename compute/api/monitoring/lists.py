"""Pages of monitored tasks and workflows, by number: newest first along an index, or sorted in another way.

What a page costs is bounded, as in all lists (ADR 0041). The newest first, all pages are to be had. Sorted otherwise,
those of up to `SORTED` rows, except by the time of creation, where the oldest first are found like the newest.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, Field, model_validator
from sqlalchemy import Boolean, ColumnElement, Select, and_, literal_column, select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.interfaces import ORMOption

from compute.api.paging import CURSOR, MOST_SKIPPED, CursorText, page_by_time
from compute.db.confinement import ALREADY_CONFINED
from compute.db.keys import one_of
from compute.db.lists.pages import EXAMINED, Filters, Listing, ListPosition, begin_walking, count_of, positions_of
from compute.errors import BadRequest
from compute.schemas.rules.parameters import Label, Moment, WholeNumber

__all__ = ["SORTED", "ListedRows", "MonitoredFilters", "MonitoredList", "id_range", "list_rows"]

RowT = TypeVar("RowT")

SORTED = 5_000
"""So many rows are sorted for a page."""
_SEARCHED = 2_000
"""So many rows are looked through for a search."""


class MonitoredFilters(BaseModel):
    """What the queries of both lists have in common."""

    page: WholeNumber = Field(
        default=1, ge=1, description="The number of the page. The pages of the first 10,000 have numbers."
    )
    page_size: WholeNumber = Field(default=50, ge=1, le=200, description="Items on a page.")
    sort_order: Literal["asc", "desc"] = Field(default="desc", description="`desc` begins with the newest or largest.")
    search: Label | None = None
    origin_instance: Label | None = Field(default=None, description="Only from this installation.")
    origin_zone: Label | None = Field(default=None, description="Only from this zone.")
    origin_tenant_id: Label | None = Field(default=None, description="Only of this tenant.")
    created_after: Moment | None = Field(
        default=None, description="Only from then on; in UTC unless it says otherwise."
    )
    created_before: Moment | None = Field(default=None, description="Only from before then.")
    cursor: CursorText = CURSOR

    @model_validator(mode="after")
    def _not_too_far(self) -> "MonitoredFilters":
        if self.skip > MOST_SKIPPED:
            raise ValueError(
                f"Parameter `page` must not lead behind the first {MOST_SKIPPED} rows; `cursor` does, or "
                "`created_before`."
            )
        return self

    @property
    def skip(self) -> int:
        return (self.page - 1) * self.page_size

    @property
    def limit(self) -> int:
        return self.page_size

    @property
    def before(self) -> ListPosition | None:
        return None if self.created_before is None else ListPosition(self.created_before, UUID(int=0))


@dataclass(frozen=True, slots=True)
class MonitoredList(Generic[RowT]):
    """A list: its rows, what it is called in cursors, which columns its answers need, and by what it can be sorted."""

    listing: Listing[RowT]
    listed: str
    options: Sequence[ORMOption]
    sorts: dict[str, Any]
    """By the words of `sort_by`, expressions of the columns."""
    found_by: Callable[[str], list[ColumnElement[bool]]]
    """The conditions of a search, each the range of an index; a row that fits one of them is found."""


@dataclass(frozen=True, slots=True)
class ListedRows(Generic[RowT]):
    """One page of rows, of which there are `total` on all pages, or more if that is not `exact`."""

    rows: Sequence[RowT]
    total: int
    exact: bool
    cursor: str | None = None

    def paged(self, asked: MonitoredFilters) -> dict[str, Any]:
        """The fields of an answer beside its items."""
        total = max(self.total, asked.skip + len(self.rows)) if self.rows else self.total
        return {
            "total": total,
            "page": asked.page,
            "page_size": asked.page_size,
            "pages": math.ceil(total / asked.page_size),
            "total_is_exact": self.exact,
            "next_cursor": self.cursor,
        }


async def list_rows(
    session: AsyncSession,
    of: MonitoredList[Any],
    asked: MonitoredFilters,
    filters: Filters,
    sort_by: str,
    *,
    total: Callable[[], Awaitable[int | None]],
) -> ListedRows[Any]:
    """The page that is asked for. It must be the first in its transaction. `total` knows how many rows there are for
    these filters, whatever time they are of, or that nobody has counted them.

    Raises:
        BadRequest: more would have to be looked through or sorted than is done at once, or a cursor is none of this
            list.
    """
    if asked.cursor is not None and asked.page > 1:
        raise BadRequest("Parameters `cursor` and `page` exclude each other; send one of them.")
    of = replace(of, listing=replace(of.listing, since=asked.created_after))
    if asked.search is None and sort_by == "created_at" and asked.sort_order == "desc":
        page = await page_by_time(
            session, of.listing, of.listed, filters, asked, options=of.options, before=asked.before
        )
        return ListedRows(page.rows, *await _total(session, of, asked, filters, total), page.next)
    if asked.cursor is not None:
        raise BadRequest("Parameter `cursor` is for the newest first, without `search`; use `page` here.")
    await begin_walking(session)
    if asked.search is not None:
        return await _searched(session, of, asked, filters, sort_by)
    if sort_by == "created_at":
        return await _oldest_first(session, of, asked, filters, await _total(session, of, asked, filters, total))
    return await _sorted(session, of, asked, filters, sort_by)


async def _searched(
    session: AsyncSession, of: MonitoredList[Any], asked: MonitoredFilters, filters: Filters, sort_by: str
) -> ListedRows[Any]:
    """Of the rows that a search finds, up to `_SEARCHED` of each kind of finding are looked at."""
    table: Any = of.listing.table
    ids: set[UUID] = set()
    exact = True
    for condition in of.found_by(asked.search or ""):
        inner = select(table.id, _matches(of, asked, filters).label("matches")).where(condition).limit(_SEARCHED + 1)
        walked = inner.subquery("walked")
        # The tenant is one of the filters: as a condition of the rows that are looked through it would be without end.
        looking = select(walked.c.id, walked.c.matches)
        rows = (await session.execute(looking, execution_options=ALREADY_CONFINED)).all()
        exact = exact and len(rows) <= _SEARCHED
        ids |= {row_id for row_id, matches in rows if matches}
    page = await _page_of_ids(session, of, asked, list(ids), sort_by)
    return ListedRows(page, len(ids), exact)


async def _total(
    session: AsyncSession,
    of: MonitoredList[Any],
    asked: MonitoredFilters,
    filters: Filters,
    total: Callable[[], Awaitable[int | None]],
) -> tuple[int, bool]:
    """How many rows match, at least, and whether that is exact."""
    if asked.created_after is None and asked.created_before is None:
        counted = await total()
        if counted is not None:
            return counted, True
    return await count_of(session, of.listing, filters, behind=asked.before)


async def _oldest_first(
    session: AsyncSession, of: MonitoredList[Any], asked: MonitoredFilters, filters: Filters, counted: tuple[int, bool]
) -> ListedRows[Any]:
    table: Any = of.listing.table
    inner = select(table.id, _matches(of, asked, filters).label("matches")).order_by(table.created_at, table.id)
    if asked.created_after is not None:
        inner = inner.where(table.created_at >= asked.created_after)
    walked = inner.limit(_share(asked, filters)).subquery("walked")
    found = select(walked.c.id).where(walked.c.matches).offset(asked.skip).limit(asked.page_size)
    ids = list(await session.scalars(found, execution_options=ALREADY_CONFINED))
    total, exact = counted
    if len(ids) < asked.page_size and (total > asked.skip + len(ids) or not exact):
        positions = await positions_of(session, of.listing, filters, behind=asked.before, limit=SORTED)
        if positions is None:
            raise BadRequest(_too_many(of, filters, "created_at"))
        ids = [position.id for position in positions[::-1][asked.skip : asked.skip + asked.page_size]]
        total, exact = len(positions), True
    return ListedRows(await _rows(session, of, ids), total, exact)


def _share(asked: MonitoredFilters, filters: Filters) -> int:
    """So many rows are looked through from the oldest on: enough for the page where all rows are wanted."""
    return EXAMINED + asked.skip + asked.page_size if filters else 2 * (asked.skip + asked.page_size) + EXAMINED


async def _sorted(
    session: AsyncSession, of: MonitoredList[Any], asked: MonitoredFilters, filters: Filters, sort_by: str
) -> ListedRows[Any]:
    positions = await positions_of(session, of.listing, filters, behind=asked.before, limit=SORTED)
    if positions is None:
        raise BadRequest(_too_many(of, filters, sort_by))
    page = await _page_of_ids(session, of, asked, [position.id for position in positions], sort_by)
    return ListedRows(page, len(positions), True)


async def _page_of_ids(
    session: AsyncSession, of: MonitoredList[Any], asked: MonitoredFilters, ids: list[UUID], sort_by: str
) -> Sequence[Any]:
    """Those of the rows that are on the page. Rows without the value that is sorted by are the last."""
    if not ids:
        return []
    table: Any = of.listing.table
    keys = (of.sorts[sort_by], table.created_at, table.id)
    ordered = [key.desc() if asked.sort_order == "desc" else key.asc() for key in keys]
    wanted: Select[Any] = select(table).where(one_of(table.id, ids)).options(*of.options)
    wanted = wanted.order_by(ordered[0].nulls_last(), *ordered[1:]).offset(asked.skip).limit(asked.page_size)
    return (await session.scalars(wanted)).all()


async def _rows(session: AsyncSession, of: MonitoredList[Any], ids: list[UUID]) -> Sequence[Any]:
    table: Any = of.listing.table
    found = await session.scalars(select(table).where(one_of(table.id, ids)).options(*of.options)) if ids else ()
    rows = {row.id: row for row in found}
    return [rows[row_id] for row_id in ids if row_id in rows]


def _matches(of: MonitoredList[Any], asked: MonitoredFilters, filters: Filters) -> ColumnElement[bool]:
    table: Any = of.listing.table
    times = [table.created_at >= asked.created_after] if asked.created_after else []
    times += [table.created_at < asked.created_before] if asked.created_before else []
    columns = [getattr(table, name).in_(values) for name, values in filters.items()]
    also = [literal_column(f"({of.listing.also})", Boolean())] if of.listing.also else []
    return and_(true(), *also, *times, *columns)


def _too_many(of: MonitoredList[Any], filters: Filters, sort_by: str) -> str:
    others = ", ".join(f"`{column.name}`" for column in of.listing.columns if column.name not in filters)
    return (
        f"Up to {SORTED} {of.listing.noun} are sorted by `{sort_by}` in this order at once, and more would have to be "
        f"looked through. Ask for fewer of them, by {others}, `created_after` or `created_before`."
    )


def id_range(column: Any, prefix: str) -> ColumnElement[bool] | None:
    """The condition of ids that begin so, in either spelling; None if none does."""
    digits = prefix.lower().removeprefix("task_").removeprefix("wf_").replace("-", "")
    if not digits or len(digits) > 32 or set(digits) - set("0123456789abcdef"):
        return None
    first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    condition: ColumnElement[bool] = and_(column >= first, column <= last)
    return condition
