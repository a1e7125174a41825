"""Lists of trainings and of what happened to one: the filters, newest and oldest first."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from compute.api.paging import (
    CURSOR,
    CURSOR_REFUSAL,
    SKIP,
    CursorText,
    Page,
    SkipNumber,
    page_by_time,
    position_of,
    total_of,
)
from compute.api.status_words import StatusWords
from compute.api.training.presenter import QUICKSTART_STATUS
from compute.db.lists.pages import Listing, Partial
from compute.db.tables import Training, trainings
from compute.errors import BadRequest
from compute.schemas.rules.parameters import Label, WholeNumber
from compute.schemas.training import TrainingStatus

__all__ = ["EVENTS", "EventQuery", "TrainingQuery", "find_trainings"]


_STATUSES = StatusWords(TrainingStatus, QUICKSTART_STATUS)
TrainingStatusWord = Annotated[str, *_STATUSES.annotations]


_LISTED = "trainings"
EVENTS = "events"


class TrainingFilters(BaseModel):
    """The query of `GET /training/`."""

    limit: WholeNumber = Field(default=10, ge=1, le=200, description="At most this many trainings.")
    skip: SkipNumber = SKIP
    cursor: CursorText = CURSOR
    status: TrainingStatusWord | None = Field(
        default=None, description="Only trainings in this status, in the words of either dialect."
    )
    origin_instance: Label | None = Field(default=None, description="Only trainings from this installation.")
    origin_tenant_id: Label | None = Field(default=None, description="Only trainings of this tenant.")


_LISTING = Listing(
    Training,
    "trainings",
    (Partial("origin_tenant_id", trainings.OF_TENANT), Partial("status", ""), Partial("origin_instance", "")),
)


async def find_trainings(session: AsyncSession, filters: TrainingFilters) -> tuple[Page[Training], int, bool]:
    """The trainings that match, newest first, without `spec` and `logs`; how many there are on all pages, and whether
    that is exact.

    Raises:
        BadRequest: a cursor that is none of this list, or more would have to be looked through than is done at once.
    """
    wanted = filters.model_dump(exclude={"limit", "skip", "status", "cursor"}, exclude_none=True)
    statuses = {} if filters.status is None else {"status": _STATUSES.meaning(filters.status)}
    asked = statuses | {name: (value,) for name, value in wanted.items()}
    short = (defer(Training.spec, raiseload=True), defer(Training.logs, raiseload=True))
    page = await page_by_time(session, _LISTING, _LISTED, asked, filters, options=short)
    return page, *await total_of(session, _LISTING, asked, page, filters.skip)


class EventFilters(BaseModel):
    """The query of `GET /training/{task_id}/events`."""

    after: WholeNumber = Field(default=0, ge=0, le=2**63 - 1, description="Only events with a higher id.")
    limit: WholeNumber = Field(default=100, ge=1, le=1000, description="At most this many events.")
    cursor: CursorText = CURSOR

    def begin(self) -> int:
        """The id above which events are asked for.

        Raises:
            BadRequest: the cursor is none of events, or comes together with `after`.
        """
        if self.cursor is None:
            return self.after
        if self.after:
            raise BadRequest("Parameters `cursor` and `after` exclude each other; send one of them.")
        last = position_of(EVENTS, self.cursor)
        if not (last.isascii() and last.isdecimal() and len(last) < 19):
            raise BadRequest(CURSOR_REFUSAL)
        return int(last)


TrainingQuery = Annotated[TrainingFilters, Query()]
EventQuery = Annotated[EventFilters, Query()]
