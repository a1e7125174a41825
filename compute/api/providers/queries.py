"""The list of paid calls: its filters, newest first."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Path, Query
from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from compute.api.dialect import parsed_uuid
from compute.api.paging import CURSOR, SKIP, CursorText, Page, SkipNumber, page_by_time
from compute.db.lists.pages import Listing, Partial
from compute.db.tables import ProviderCall, providers
from compute.errors import BadRequest
from compute.schemas.calls import CallStateName
from compute.schemas.enums import ProviderType
from compute.schemas.rules.parameters import WholeNumber

__all__ = ["CallId", "CallQuery", "as_uuid", "find_calls", "read_call_id"]


def as_uuid(value: Any) -> Any:
    """A parameter that is a UUID in its usual spelling; for a validator before pydantic's own."""
    if not isinstance(value, str):
        return value
    parsed = parsed_uuid(value)
    if parsed is None:
        raise PydanticCustomError("uuid", "must be a UUID")
    return parsed


class CallFilters(BaseModel):
    """The query of `GET /providers/calls`."""

    limit: WholeNumber = Field(default=100, ge=1, le=1000, description="At most this many calls.")
    skip: SkipNumber = SKIP
    cursor: CursorText = CURSOR
    task_id: Annotated[UUID, BeforeValidator(as_uuid)] | None = Field(
        default=None, description="Only calls of this task."
    )
    state: CallStateName | None = Field(default=None, description="Only calls in this state.")
    provider: ProviderType | None = Field(default=None, description="Only calls of this provider.")


_LISTING = Listing(
    ProviderCall,
    "calls",
    (Partial("task_id", providers.CALLS_OF_TASK), Partial("state", ""), Partial("provider", "")),
)
_LISTED = "calls"
_SHORT = (
    defer(ProviderCall.addresses, raiseload=True),
    defer(ProviderCall.result, raiseload=True),
    defer(ProviderCall.requests, raiseload=True),
)


async def find_calls(session: AsyncSession, filters: CallFilters) -> Page[ProviderCall]:
    """The calls that match, newest first, without their results and requests.

    Raises:
        BadRequest: a cursor that is none of this list, or more would have to be looked through than is done at once.
    """
    wanted = filters.model_dump(exclude={"limit", "skip", "cursor"}, exclude_none=True)
    asked = {name: (value,) for name, value in wanted.items()}
    return await page_by_time(session, _LISTING, _LISTED, asked, filters, options=_SHORT)


def read_call_id(call_id: str) -> UUID:
    """Raises:
    BadRequest: it is no UUID.
    """
    parsed = parsed_uuid(call_id)
    if parsed is None:
        raise BadRequest("Parameter `call_id` must be a UUID.")
    return parsed


CallQuery = Annotated[CallFilters, Query()]
CallId = Annotated[str, Path(description="The call's UUID.", examples=["0b6f0a52-64c8-4a3c-9d0e-0c7a8a0f7f10"])]
