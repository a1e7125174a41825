"""Lists of workflows: the filters of the contract, newest first."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.paging import CURSOR, SKIP, CursorText, Page, SkipNumber, page_by_time, total_of
from compute.api.status_words import StatusWords
from compute.db.lists.pages import Listing, Partial
from compute.db.tables import Workflow, workflows
from compute.schemas.enums import WorkflowStatus
from compute.schemas.rules.parameters import Flag, Label, WholeNumber

__all__ = ["LISTING", "STATUSES", "WorkflowQuery", "WorkflowStatusWord", "find_workflows"]


STATUSES = StatusWords(WorkflowStatus, {status: status.lower() for status in WorkflowStatus})
WorkflowStatusWord = Annotated[str, *STATUSES.annotations]


class WorkflowFilters(BaseModel):
    """The query of `GET /workflows/`."""

    limit: WholeNumber = Field(default=50, ge=1, le=200, description="At most this many, each with its steps.")
    skip: SkipNumber = SKIP
    cursor: CursorText = CURSOR
    status: WorkflowStatusWord | None = Field(
        default=None, description="Only workflows in this status, in the words of either dialect."
    )
    origin_instance: Label | None = Field(default=None, description="Only workflows from this installation.")
    origin_tenant_id: Label | None = Field(default=None, description="Only workflows of this tenant.")
    include_deleted: Flag = Field(default=False, description="Also those that were cleaned up.")


_LISTED = "workflows"


LISTING = Listing(
    Workflow,
    "workflows",
    (
        Partial("origin_tenant_id", workflows.OF_TENANT),
        Partial("status", workflows.LISTED),
        Partial("origin_instance", workflows.LISTED),
        Partial("origin_zone", workflows.OF_ZONE),
    ),
    also=workflows.LISTED,
    statuses=tuple(WorkflowStatus),
)
_WITH_DELETED = Listing(Workflow, "workflows")


async def find_workflows(session: AsyncSession, filters: WorkflowFilters) -> tuple[Page[Workflow], int, bool]:
    """The workflows that match, newest first; how many there are on all pages, and whether that is exact.

    Raises:
        BadRequest: a cursor that is none of this list, or more would have to be looked through than is done at once.
    """
    wanted = filters.model_dump(exclude={"limit", "skip", "include_deleted", "status", "cursor"}, exclude_none=True)
    statuses = {} if filters.status is None else {"status": STATUSES.meaning(filters.status)}
    asked = statuses | {name: (value,) for name, value in wanted.items()}
    listing = _WITH_DELETED if filters.include_deleted else LISTING
    page = await page_by_time(session, listing, _LISTED, asked, filters)
    return page, *await total_of(session, listing, asked, page, filters.skip)


WorkflowQuery = Annotated[WorkflowFilters, Query()]
