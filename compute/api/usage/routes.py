"""/usage: what was used, by day, tenant, type of tasks and provider."""

from fastapi import APIRouter, Request, Response

from compute.api.deps import LinksDep, ResourcesDep
from compute.api.http.strict import StrictRoute
from compute.api.paging import PAGED, json_list, list_answer
from compute.api.usage.queries import UsageQuery, days_of, find_usage
from compute.schemas.usage import UsageList

__all__ = ["router"]

router = APIRouter(prefix="/usage", tags=["Usage"], route_class=StrictRoute)


@router.get("", response_model=UsageList, responses=PAGED)
async def list_usage(filters: UsageQuery, request: Request, resources: ResourcesDep, links: LinksDep) -> Response:
    """What tasks and paid calls have used, and what it cost. The sums outlive the tasks. The header `Link` leads to the
    next page."""
    days = days_of(filters)
    async with resources.database.transaction() as session:
        page = await find_usage(session, filters, days)
    rendered = await json_list(page.rows, lambda one: one)
    rest = {"first": days.first.isoformat(), "last": days.last.isoformat(), "currency": resources.settings.currency}
    return list_answer(rendered, page.next, request, links, name="usage", rest=rest)
