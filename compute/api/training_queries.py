"""Lists of trainings and of what happened to one: the filters, newest and oldest first."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, Field

from compute.api.paging import CURSOR, CURSOR_REFUSAL, CursorText, place_behind
from compute.api.status_words import StatusWords
from compute.api.training_present import QUICKSTART_STATUS
from compute.errors import BadRequest
from compute.schemas.parameters import Label, WholeNumber
from compute.schemas.training import TrainingStatus

__all__ = ["EVENTS", "TRAININGS", "EventQuery", "TrainingQuery"]


_STATUSES = StatusWords(TrainingStatus, QUICKSTART_STATUS)
TrainingStatusWord = Annotated[str, *_STATUSES.annotations]


TRAININGS = "trainings"
EVENTS = "events"


class TrainingFilters(BaseModel):
    """The query of `GET /training/`."""

    limit: WholeNumber = Field(default=10, ge=1, le=200, description="At most this many trainings.")
    skip: WholeNumber = Field(default=0, ge=0, le=1_000_000, description="Leave out this many of the newest.")
    cursor: CursorText = CURSOR
    status: TrainingStatusWord | None = Field(
        default=None, description="Only trainings in this status, in the words of either dialect."
    )
    origin_instance: Label | None = Field(default=None, description="Only trainings from this installation.")
    origin_tenant_id: Label | None = Field(default=None, description="Only trainings of this tenant.")

    def columns(self) -> dict[str, Any]:
        """The columns that rows must have like this."""
        return self.model_dump(exclude={"limit", "skip", "status", "cursor"}, exclude_none=True)

    def statuses(self) -> tuple[str, ...] | None:
        """The statuses that rows may have; None for any."""
        return None if self.status is None else _STATUSES.meaning(self.status)


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
        last = place_behind(EVENTS, self.cursor)
        if not (last.isascii() and last.isdecimal() and len(last) < 19):
            raise BadRequest(CURSOR_REFUSAL)
        return int(last)


TrainingQuery = Annotated[TrainingFilters, Query()]
EventQuery = Annotated[EventFilters, Query()]
