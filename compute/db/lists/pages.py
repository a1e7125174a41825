"""Pages of rows that are listed newest first, and counts of them. What a page costs is bounded before it is read.

A list knows the indices along which it can be walked. One filter alone that has an index is answered to the end. Of
several, each one's walk looks for what fits all of them, and each may examine its share of `EXAMINED` rows: the page is
whole when one of them fills it, or comes to its end.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.interfaces import ORMOption

from compute.db.away import StatementTooSlow, away
from compute.db.keys import one_of
from compute.db.lists.walks import Heap, ListPosition, Span, Walked, follow_indices, walk, walked_count

__all__ = [
    "COUNTED",
    "EXAMINED",
    "Filters",
    "Found",
    "ListPosition",
    "Listing",
    "Partial",
    "begin_walking",
    "count_of",
    "latest_of",
    "page_of",
    "positions_of",
]

T = TypeVar("T")

EXAMINED = 12_000
"""So many rows are examined for a page, by all walks together."""
COUNTED = 10_000
"""So many rows are counted."""
_SECONDS = "3s"
_AT_A_TIME = 100

Filters = Mapping[str, Sequence[Any]]
"""By the name of a column, the values that it may have."""


@dataclass(frozen=True, slots=True)
class Partial:
    """A column with an index over the rows that are `where`. The others are in `heaps`, whatever the column is."""

    name: str
    where: str
    heaps: tuple[Heap, ...] = ()
    values: frozenset[str] | None = None
    """Those that rows of the index can have; None for any."""
    also: str = ""
    """What rows of the list are and those of the index need not be."""


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A list of the rows of a table that are `also`. The table has an index on (created_at, id) for all of its rows.

    `columns` are those with an index of their own, the most telling first. `statuses` are all that rows can have, if
    rows that are not `also` may be many: then those that are can be found by the column `status`. Rows from before
    `since` are not in it.
    """

    table: type[T]
    noun: str
    columns: tuple[Partial, ...] = ()
    also: str = ""
    statuses: tuple[str, ...] = ()
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """Rows of a page. `behind` is where the next one begins; None if there is none. `whole`: all were found that the
    page has room for, or there are."""

    rows: Sequence[T]
    behind: ListPosition | None
    whole: bool


@dataclass(frozen=True, slots=True)
class _Way:
    """Walks that together see every row which the filters want, each with those of which its index knows nothing."""

    walks: tuple[tuple[Span | Heap, Filters], ...]

    @property
    def exact(self) -> bool:
        """Whether all rows that are seen are wanted."""
        return all(isinstance(along, Span) and not along.also and not left for along, left in self.walks)


async def page_of(
    session: AsyncSession,
    listing: Listing[T],
    filters: Filters,
    *,
    behind: ListPosition | None,
    skip: int,
    limit: int,
    options: Sequence[ORMOption] = (),
) -> Found[T]:
    """The rows behind a position, without the first `skip`. It must be the first in its transaction.

    Raises:
        StatementTooSlow: the database was too busy for it.
    """
    try:
        await begin_walking(session)
        positions, until, whole = await _find(session, listing, filters, behind, skip, limit)
        return Found(await _rows(session, listing.table, positions, options), until, whole)
    except DBAPIError as error:
        if isinstance(away(error), StatementTooSlow):
            raise StatementTooSlow(
                f"The database is too busy for this page of {listing.noun}; try again later, with a smaller `limit`, "
                f"or with filters that fewer of them match, such as {_named(listing)}.",
                told=str(error.orig),
            ) from error
        raise


async def begin_walking(session: AsyncSession) -> None:
    """Let all statements of a transaction, which has just begun, have one view of the rows, and a few seconds each."""
    # What one walk has seen is no news to the next.
    await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    await follow_indices(session, statement_timeout=_SECONDS)


async def positions_of(
    session: AsyncSession, listing: Listing[Any], filters: Filters, *, behind: ListPosition | None, limit: int
) -> Sequence[ListPosition] | None:
    """The positions of all rows behind a position, newest first; None if there are more than `limit`, or more would
    have to be examined. Its transaction is one of `page_of`, or begins as that does."""
    found, _, whole = await _find(session, listing, filters, behind, 0, limit + 1)
    return found if whole and len(found) <= limit else None


async def latest_of(
    session: AsyncSession, listing: Listing[Any], filters: Filters, limit: int
) -> tuple[Sequence[UUID], bool]:
    """The ids of the newest rows, up to `limit`, and whether those are all. Its transaction is one of `page_of`, or
    begins as that does."""
    found, behind, whole = await _find(session, listing, filters, None, 0, limit)
    return [position.id for position in found], whole and behind is None


async def count_of(
    session: AsyncSession, listing: Listing[Any], filters: Filters, *, behind: ListPosition | None = None
) -> tuple[int, bool]:
    """Count the rows behind a position, up to `COUNTED`, and say whether that is exact: otherwise there are as many or
    more. Its transaction is one of `page_of`."""
    most = 0
    ways = list(_ways(listing, filters))
    # By time alone there is no end to what is left out.
    for way in sorted(ways, key=lambda way: not way.exact):
        found, complete = 0, all(isinstance(along, Span) for along, _ in way.walks)
        for along, left in way.walks:
            if isinstance(along, Span):
                budget = COUNTED - found if way.exact else _share(ways)
                known = _by_column(listing, left)
                more, exact = await walked_count(session, listing.table, along, known, budget, behind)
                found, complete = found + more, complete and exact
        most = max(most, min(found, COUNTED))
        if complete or most == COUNTED:
            return most, complete
    return most, False


def _named(listing: Listing[Any]) -> str:
    return ", ".join(f"`{column.name}`" for column in listing.columns)


async def _find(
    session: AsyncSession, listing: Listing[Any], filters: Filters, behind: ListPosition | None, skip: int, limit: int
) -> tuple[Sequence[ListPosition], ListPosition | None, bool]:
    ways = list(_ways(listing, filters))
    furthest: Walked | None = None
    for way in ways:
        seen = await _walk_all(session, listing, way, ways, behind, skip, limit + 1)
        if seen.known and seen.full:
            return seen.found[:limit], seen.found[limit - 1], True
        if seen.known and seen.behind is None:
            return seen.found, None, True
        if seen.known and (furthest is None or _before(seen.behind, furthest.behind)):
            furthest = seen
    # The walk by time alone is always one of them.
    assert furthest is not None  # noqa: S101
    return furthest.found, furthest.behind, False


def _before(one: ListPosition | None, other: ListPosition | None) -> bool:
    return one is not None and other is not None and one < other


async def _walk_all(
    session: AsyncSession,
    listing: Listing[Any],
    way: _Way,
    ways: Sequence[_Way],
    behind: ListPosition | None,
    skip: int,
    limit: int,
) -> Walked:
    """The walks of a way as one: up to where the first of them was stopped."""
    # Of several, nobody knows which of them has the rows to be skipped.
    alone = len(way.walks) == 1 and isinstance(way.walks[0][0], Span)
    inside, outside = (skip, 0) if alone else (0, skip)
    seen = [
        await walk(
            session,
            listing.table,
            along,
            _by_column(listing, left),
            position=behind,
            skip=inside,
            limit=outside + limit,
            budget=_budget(along, left, ways, skip + limit),
        )
        for along, left in way.walks
    ]
    if alone:
        return seen[0]
    stops = [one.behind for one in seen if one.behind is not None]
    found = sorted((position for one in seen for position in one.found), reverse=True)
    if stops:
        found = [position for position in found if position >= max(stops)]
    shown = found[skip : skip + limit]
    return Walked(shown, len(shown) == limit, max(stops, default=None), all(one.known for one in seen))


def _budget(along: Span | Heap, left: Filters, ways: Sequence[_Way], enough: int) -> int:
    """The number of rows that a walk may examine: `enough` where all of them are wanted, or else its share. By time
    alone most lists come to their page soon: that walk may pass by as many others as it needs."""
    if isinstance(along, Span) and not along.also and not left:
        return enough
    share = _share(ways)
    return share if isinstance(along, Heap) or along.column is not None else share + 2 * enough


def _share(ways: Sequence[_Way]) -> int:
    return EXAMINED // sum(len(way.walks) for way in ways)


def _ways(listing: Listing[Any], filters: Filters) -> Iterator[_Way]:
    """The ways to what the filters want: by the index that knows it all, or else first by those that are short or know
    one of them, then by time, which most often is enough, and by what looks at all that has not ended as well."""
    found = [
        _way(listing, column, filters[column.name], filters) for column in listing.columns if column.name in filters
    ]
    plain = _Way(((Span("", also=listing.also, since=listing.since), filters),))
    for way in (plain, *found):
        if way.exact:
            yield way
            return
    if not filters:
        yield plain
        yield from (_way(listing, one, listing.statuses, {}) for one in listing.columns if one.name == "status")
        return
    mixed = [way for way in found if len({type(along) for along, _ in way.walks}) > 1]
    yield from (way for way in found if way not in mixed)
    yield plain
    yield from mixed


def _way(listing: Listing[Any], column: Partial, values: Sequence[Any], filters: Filters) -> _Way:
    inside = [value for value in values if column.values is None or value in column.values]
    outside = column.heaps if column.values is None or len(inside) < len(values) else ()
    left = {name: known for name, known in filters.items() if name != column.name}
    along = getattr(listing.table, column.name)
    spans = [Span(column.where, along, value, column.also, listing.since) for value in inside]
    heaps = [replace(heap, since=listing.since) for heap in outside]
    return _Way((*((span, left) for span in spans), *((heap, filters) for heap in heaps)))


def _by_column(listing: Listing[Any], filters: Filters) -> dict[Any, Sequence[Any]]:
    return {getattr(listing.table, name): values for name, values in filters.items()}


async def _rows(
    session: AsyncSession, table: Any, positions: Sequence[ListPosition], options: Sequence[ORMOption]
) -> Sequence[Any]:
    """The rows at these positions. Many are read some at a time, because to make objects of them takes a while."""
    if not positions:
        return []
    ids = [position.id for position in positions]
    wanted = select(table).where(one_of(table.id, ids)).options(*options)
    streamed = await session.stream_scalars(wanted, execution_options={"yield_per": _AT_A_TIME})
    rows = {row.id: row async for row in streamed}
    return [rows[row_id] for row_id in ids if row_id in rows]
