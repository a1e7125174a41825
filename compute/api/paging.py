"""Pages of lists: a cursor that keeps its position while rows come and go, and answers that let others have their turn.

    Link: <https://…/tasks/?limit=100&cursor=…>; rel="next"
    X-Next-Cursor: …

A cursor says behind which row a page begins, so a row that comes or goes meanwhile moves nothing. Clients need not
understand it; it belongs to the list that gave it out.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Protocol, TypeVar
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from fastapi import Query, Request, Response
from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.interfaces import ORMOption

from compute.api.links import RequestLinks
from compute.db.confinement import tenant_of
from compute.db.lists.pages import Filters, Listing, ListPosition, count_of, page_of
from compute.errors import BadRequest, Forbidden
from compute.schemas.rules.parameters import WholeNumber

__all__ = [
    "CURSOR",
    "CURSOR_REFUSAL",
    "PAGED",
    "PATH_CURSOR",
    "SKIP",
    "CursorText",
    "Page",
    "SkipNumber",
    "cursor_of",
    "json_list",
    "list_answer",
    "next_page",
    "next_row",
    "other_tenant",
    "page_by_time",
    "position_of",
    "total_of",
]

T = TypeVar("T")

_MOST_CHARACTERS = 4096
MOST_SKIPPED = 10_000
_TOP = ListPosition(datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))
"""Before all rows."""


def _not_too_deep(skip: int) -> int:
    if skip > MOST_SKIPPED:
        raise PydanticCustomError(
            "less_than_equal_with_cursor",
            "must be at most {most}; what is behind those is reached by `cursor`, as `X-Next-Cursor` says it",
            {"most": MOST_SKIPPED},
        )
    return skip


_DESCRIPTION = "Where the page begins: what `X-Next-Cursor` of the last one said"
CURSOR = Field(
    default=None, min_length=1, max_length=_MOST_CHARACTERS, description=f"{_DESCRIPTION}. It goes without `skip`."
)
CursorText = str | None
SkipNumber = Annotated[WholeNumber, AfterValidator(_not_too_deep)]
SKIP = Field(
    default=0,
    ge=0,
    description=f"Leave out this many of the newest, up to {MOST_SKIPPED:,}; `cursor` reaches what is behind them.",
    json_schema_extra={"maximum": MOST_SKIPPED},
)
PATH_CURSOR = Query(min_length=1, max_length=_MOST_CHARACTERS, description=f"{_DESCRIPTION}.")
PAGED: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "Link": {"description": 'The next page: `<address>; rel="next"`.', "schema": {"type": "string"}},
            "X-Next-Cursor": {"description": "The `cursor` of the next page.", "schema": {"type": "string"}},
        }
    }
}
CURSOR_REFUSAL = "Parameter `cursor` must be what `X-Next-Cursor` of this list said, as it was."
_AT_A_TIME = 20
"""Rows after which other requests have their turn."""


class _Dated(Protocol):
    @property
    def created_at(self) -> datetime: ...

    @property
    def id(self) -> UUID: ...


RowT = TypeVar("RowT", bound=_Dated)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows of a list, and the cursor of those behind them; None at the end."""

    rows: Sequence[T]
    next: str | None

    @classmethod
    def of(cls, rows: Sequence[T], limit: int, cursor: Callable[[T], str]) -> "Page[T]":
        """The first `limit` of `rows`, of which there is one more if there is another page."""
        shown = rows[:limit]
        return cls(shown, cursor(shown[-1]) if len(rows) > limit else None)


def cursor_of(listed: str, *position: str) -> str:
    """The cursor of a position in the list of this name."""
    return base64.urlsafe_b64encode(json.dumps([listed, *position]).encode()).decode().rstrip("=")


def position_of(listed: str, cursor: str) -> str:
    """The position that a cursor of this list names.

    Raises:
        BadRequest: it was not given out by this list.
    """
    return _read(listed, cursor, 1)[0]


def next_row(listed: str, cursor: str | None, *, skip: int = 0) -> ListPosition | None:
    """Behind which row a page of a list by time begins; None for the first page.

    Raises:
        BadRequest: the cursor is none of this list, or comes together with `skip`.
    """
    if cursor is None:
        return None
    if skip:
        raise BadRequest("Parameters `cursor` and `skip` exclude each other; send one of them.")
    created_at, row_id = _read(listed, cursor, 2)
    try:
        position = ListPosition(datetime.fromisoformat(created_at), UUID(row_id))
    except ValueError:
        raise BadRequest(CURSOR_REFUSAL) from None
    if position.created_at.tzinfo is None:
        raise BadRequest(CURSOR_REFUSAL)
    return position


class Asked(Protocol):
    """The page that a query of a list by time asks for."""

    @property
    def limit(self) -> int: ...

    @property
    def skip(self) -> int: ...

    @property
    def cursor(self) -> str | None: ...


async def page_by_time(
    session: AsyncSession,
    listing: Listing[RowT],
    listed: str,
    filters: Filters,
    asked: Asked,
    *,
    options: Sequence[ORMOption] = (),
    before: ListPosition | None = None,
) -> Page[RowT]:
    """The page that a query asks for, of the rows behind `before`. Behind a cursor it may be short, or empty, and have
    another one behind it; without one it is whole, or refused.

    Raises:
        BadRequest: a cursor that is none of this list, or more would have to be looked through than is done at once.
        Forbidden: the caller is bound to a tenant, and asks for another one's.
        StatementTooSlow: the database was too busy for it.
    """
    behind = min(filter(None, (next_row(listed, asked.cursor, skip=asked.skip), before)), default=None)
    filters = _of_caller(session, listing, filters)
    found = await page_of(session, listing, filters, behind=behind, skip=asked.skip, limit=asked.limit, options=options)
    if not found.whole and asked.cursor is None:
        raise BadRequest(_too_many(listing, listed, filters))
    return Page(found.rows, None if found.behind is None else _cursor(listed, found.behind))


async def total_of(
    session: AsyncSession, listing: Listing[RowT], filters: Filters, page: Page[RowT], skip: int
) -> tuple[int, bool]:
    """Count the rows of the list that match, at least, and say whether that is all; for use after `page_by_time`."""
    total, exact = await count_of(session, listing, _of_caller(session, listing, filters))
    return max(total, skip + len(page.rows)) if page.rows else total, exact


def _of_caller(session: AsyncSession, listing: Listing[Any], filters: Filters) -> Filters:
    """The filters of a caller who is bound to a tenant: the tenant is one of them.

    Raises:
        Forbidden: another tenant is asked for.
    """
    tenant = tenant_of(session)
    if tenant is None or not hasattr(listing.table, "origin_tenant_id"):
        return filters
    if filters.get("origin_tenant_id", (tenant,)) != (tenant,):
        raise Forbidden(other_tenant("origin_tenant_id", tenant))
    return {**filters, "origin_tenant_id": (tenant,)}


def other_tenant(parameter: str, tenant: str) -> str:
    """The refusal of a filter for another tenant than the caller's."""
    return f"Parameter `{parameter}` must be `{tenant}` with this key, or be left out."


def _too_many(listing: Listing[Any], listed: str, filters: Filters) -> str:
    others = [f"`{column.name}`" for column in listing.columns if column.name not in filters]
    narrower = f"Filter by one more of {', '.join(others)}, or look" if others else "Look"
    return (
        f"Too many {listing.noun} would have to be looked through for the few that match. {narrower} through all of "
        f"them by `cursor`, whose pages may be short: the first one's is `{_cursor(listed, _TOP)}`."
    )


def _cursor(listed: str, position: ListPosition) -> str:
    return cursor_of(listed, position.created_at.isoformat(), str(position.id))


def _read(listed: str, cursor: str, parts: int) -> list[str]:
    try:
        said = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        # A store asks for a position by name: what no name can hold is no position.
        json.dumps(said, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise BadRequest(CURSOR_REFUSAL) from None
    known = isinstance(said, list) and len(said) == parts + 1 and all(isinstance(part, str) for part in said)
    if not known or said[0] != listed or cursor_of(*said) != cursor or any("\0" in part for part in said):
        raise BadRequest(CURSOR_REFUSAL)
    return [str(part) for part in said[1:]]


async def json_list(
    rows: Iterable[T] | AsyncIterator[T], render: Callable[[T], BaseModel] | Callable[[T], Awaitable[BaseModel]]
) -> str:
    """The JSON of each row, as a list. However many there are, nobody is held up."""
    made: list[str] = []
    async for row in _each(rows):
        shown = render(row)
        model = shown if isinstance(shown, BaseModel) else await shown
        made.append(model.model_dump_json(by_alias=True))
        if len(made) % _AT_A_TIME == 0:
            await asyncio.sleep(0)
    return f"[{','.join(made)}]"


async def _each(rows: Iterable[T] | AsyncIterator[T]) -> AsyncIterator[T]:
    if isinstance(rows, AsyncIterator):
        async for row in rows:
            yield row
    else:
        for row in rows:
            yield row


def list_answer(
    rendered: str,
    cursor: str | None,
    request: Request,
    links: RequestLinks,
    *,
    name: str | None = None,
    rest: dict[str, Any] | None = None,
) -> Response:
    """The answer with a rendered list, and where the next page is.

    With `name` the answer is an object that has the list under this name, `rest` beside it, and `next_cursor`.
    """
    if name is not None:
        rest = (rest or {}) | {"next_cursor": cursor}
        rendered = f"{{{json.dumps(name)}:{rendered},{json.dumps(rest)[1:]}"
    return Response(rendered, headers=next_page(cursor, request, links), media_type="application/json")


def next_page(cursor: str | None, request: Request, links: RequestLinks) -> dict[str, str]:
    """The headers that say where the next page is; none if there is none."""
    if cursor is None:
        return {}
    said = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    query = urlencode([(key, value) for key, value in said if key not in ("cursor", "skip", "after", "page")])
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    begun = f"{links.base_url}{path}?{query}{'&' if query else ''}cursor={cursor}"
    return {"Link": f'<{begun}>; rel="next"', "X-Next-Cursor": cursor}
