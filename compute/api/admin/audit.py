"""/admin/audit: who did what."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, Field

from compute.api.deps import LinksDep, ResourcesDep, require_admin_key
from compute.api.http.strict import StrictRoute
from compute.api.paging import CURSOR, PAGED, SKIP, CursorText, SkipNumber, json_list, list_answer, page_by_time
from compute.api.providers.queries import as_uuid
from compute.db.lists.pages import Listing, Partial
from compute.db.tables import AuditEntry
from compute.schemas.admin.audit import AuditEntryPublic, AuditList
from compute.schemas.rules.parameters import Label, WholeNumber

__all__ = ["router"]

router = APIRouter(
    prefix="/admin/audit", tags=["admin"], dependencies=[Depends(require_admin_key)], route_class=StrictRoute
)
_LISTED = "audit"
_LISTING = Listing(
    AuditEntry, "entries", (Partial("key_id", "key_id IS NOT NULL"), Partial("tenant", "tenant IS NOT NULL"))
)


class AuditFilters(BaseModel):
    """The query of `GET /admin/audit`."""

    limit: WholeNumber = Field(default=100, ge=1, le=1000, description="At most this many entries.")
    skip: SkipNumber = SKIP
    cursor: CursorText = CURSOR
    key_id: Annotated[UUID, BeforeValidator(as_uuid)] | None = Field(
        default=None, description="Only requests with this key."
    )
    tenant: Label | None = Field(default=None, description="Only requests with keys of this tenant.")
    operation: Label | None = Field(default=None, description="Only these operations, such as `create_task`.")
    request_id: Label | None = Field(default=None, description="Only the request of this `X-Request-Id`.")


AuditQuery = Annotated[AuditFilters, Query()]


@router.get("", response_model=AuditList, responses=PAGED)
async def list_audit_entries(
    filters: AuditQuery, request: Request, resources: ResourcesDep, links: LinksDep
) -> Response:
    """Requests that changed something, and those of administrators, newest first. The header `Link` leads to the next
    page."""
    wanted: dict[str, Any] = filters.model_dump(exclude={"limit", "skip", "cursor"}, exclude_none=True)
    async with resources.database.transaction() as session:
        asked = {name: (value,) for name, value in wanted.items()}
        page = await page_by_time(session, _LISTING, _LISTED, asked, filters)
    return list_answer(await json_list(page.rows, _present), page.next, request, links, name="entries")


def _present(row: AuditEntry) -> AuditEntryPublic:
    return AuditEntryPublic(**{name: getattr(row, name) for name in AuditEntryPublic.model_fields})
