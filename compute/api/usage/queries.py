"""Sums of what was used: the filters, and what they are grouped by."""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.paging import CURSOR, CURSOR_REFUSAL, CursorText, Page, cursor_of, other_tenant, position_of
from compute.api.tasks.queries import TaskTypeName
from compute.db.confinement import tenant_of
from compute.errors import BadRequest, Forbidden
from compute.schemas.enums import ProviderType
from compute.schemas.rules.parameters import Label, WholeNumber
from compute.schemas.usage import UsageSum

__all__ = ["Days", "UsageQuery", "days_of", "find_usage"]

GROUPS = ("day", "tenant", "task_type", "provider")
_LISTED = "usage"
_MOST_DAYS = 366
_USUAL_DAYS = 30
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_UNITS = ("images", "megapixels", "input_tokens", "output_tokens", "seconds", "credits", "gpu_seconds", "amount")
_SUMS = ", ".join(f"sum({name})::float8 AS {name}" for name in _UNITS)
_COLUMNS = ", ".join(GROUPS)


def _day(value: Any) -> Any:
    if isinstance(value, str) and _DAY.fullmatch(value) is None:
        raise PydanticCustomError("day", "must be a day, as in 2026-12-01")
    return value


def _grouped(value: str) -> str:
    names = value.split(",")
    if len(set(names)) < len(names) or not set(names) <= set(GROUPS):
        raise PydanticCustomError("group_by", "must be some of {known}, with commas between", {"known": _COLUMNS})
    return value


Day = Annotated[date, BeforeValidator(_day)]


class UsageFilters(BaseModel):
    """The query of `GET /usage`."""

    first: Day | None = Field(
        default=None, alias="from", description=f"First day, in UTC; by default {_USUAL_DAYS - 1} days before `to`."
    )
    last: Day | None = Field(
        default=None,
        alias="to",
        description=f"Last day, in UTC; by default today. At most {_MOST_DAYS} days are summed.",
    )
    tenant: Label | None = Field(default=None, description="Only this tenant; `default` for tasks without one.")
    task_type: TaskTypeName | None = Field(default=None, description="Only tasks of this type.")
    provider: ProviderType | None = Field(default=None, description="Only this provider.")
    group_by: Annotated[str, AfterValidator(_grouped)] = Field(
        default=",".join(GROUPS),
        description="What has sums of its own: day, tenant, task_type, provider, or some of them.",
    )
    limit: WholeNumber = Field(default=1000, ge=1, le=1000, description="At most this many sums.")
    cursor: CursorText = CURSOR


@dataclass(frozen=True, slots=True)
class Days:
    """The days that are summed, both included."""

    first: date
    last: date


def days_of(asked: UsageFilters) -> Days:
    """Raises:
    BadRequest: there are none, or too many.
    """
    last = asked.last or datetime.now(UTC).date()
    first = asked.first or date.fromordinal(max(last.toordinal() - _USUAL_DAYS + 1, 1))
    if first > last:
        raise BadRequest("Parameter `from` must not be later than `to`.")
    if (last - first).days >= _MOST_DAYS:
        raise BadRequest(f"Parameters `from` and `to` must be at most {_MOST_DAYS} days apart; both are counted.")
    return Days(first, last)


async def find_usage(session: AsyncSession, asked: UsageFilters, days: Days) -> Page[UsageSum]:
    """The sums, in the order of their groups.

    Raises:
        BadRequest: a cursor that is none of this list, or of other groups.
        Forbidden: the caller is bound to a tenant, and asks for another one's.
    """
    groups = [name for name in GROUPS if name in asked.group_by.split(",")]
    conditions = ["day BETWEEN :first AND :last"]
    given: dict[str, Any] = {"first": days.first, "last": days.last, "limit": asked.limit + 1}
    tenant = tenant_of(session)
    if tenant is not None and asked.tenant not in (None, tenant):
        raise Forbidden(other_tenant("tenant", tenant))
    wanted_of = {"tenant": tenant or asked.tenant, "task_type": asked.task_type, "provider": asked.provider}
    for name, wanted in wanted_of.items():
        if wanted is not None:
            conditions.append(f"{name} = :{name}")
            given[name] = str(wanted)
    if asked.cursor is not None:
        behind = _behind(asked.cursor, groups)
        conditions.append(f"({', '.join(groups)}) > ({', '.join(_parameter(name) for name in groups)})")
        given |= {f"after_{name}": value for name, value in behind.items()}
    statement = text(_statement(groups, " AND ".join(conditions)))
    rows = await session.execute(statement, given)
    found = [_sum(row) for row in rows]
    return Page.of(found, asked.limit, lambda last: _cursor(last, groups))


def _statement(groups: Sequence[str], where: str) -> str:
    grouped = ", ".join(groups)
    columns = f"{_COLUMNS}, tasks, calls, {', '.join(_UNITS)}"
    return f"""
    SELECT {grouped}, sum(tasks)::bigint AS tasks, sum(calls)::bigint AS calls, {_SUMS}
      FROM (SELECT {columns} FROM usage_days WHERE {where}
            UNION ALL SELECT {columns} FROM usage_news WHERE id > 0 AND {where}) AS used
     GROUP BY {grouped} ORDER BY {grouped} LIMIT :limit
    """


def _parameter(name: str) -> str:
    return f"CAST(:after_{name} AS {'date' if name == 'day' else 'text'})"


def _sum(row: Row[Any]) -> UsageSum:
    said = row._asdict()
    return UsageSum(**{name: None if name in GROUPS and value == "" else value for name, value in said.items()})


def _cursor(last: UsageSum, groups: Sequence[str]) -> str:
    values = [getattr(last, name) for name in groups]
    said = ["" if value is None else str(value) for value in values]
    return cursor_of(_LISTED, json.dumps([*groups, *said]))


def _behind(cursor: str, groups: Sequence[str]) -> dict[str, Any]:
    """The group behind which a page begins.

    Raises:
        BadRequest: it was not given out for these groups.
    """
    try:
        said = json.loads(position_of(_LISTED, cursor))
    except (ValueError, RecursionError):
        raise BadRequest(CURSOR_REFUSAL) from None
    known = isinstance(said, list) and len(said) == 2 * len(groups) and all(isinstance(one, str) for one in said)
    if not known or said[: len(groups)] != list(groups):
        raise BadRequest(CURSOR_REFUSAL)
    behind: dict[str, Any] = dict(zip(groups, said[len(groups) :], strict=True))
    if "day" in behind:
        try:
            behind["day"] = date.fromisoformat(behind["day"])
        except ValueError:
            raise BadRequest(CURSOR_REFUSAL) from None
    return behind


UsageQuery = Annotated[UsageFilters, Query()]
