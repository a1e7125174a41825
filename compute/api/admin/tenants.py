"""/admin/tenants: what the keys of a tenant may use together."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from compute.api.access.caller import caller_of
from compute.api.bodies.json_body import json_object
from compute.api.deps import LinksDep, ResourcesDep, require_admin_key
from compute.api.http.strict import StrictRoute
from compute.api.openapi.request_bodies import LIMITS_BODY
from compute.api.paging import PAGED, PATH_CURSOR, Page, cursor_of, json_list, list_answer, position_of
from compute.db.tables import Tenant
from compute.errors import NotFound
from compute.requests.validate import validate
from compute.schemas.admin.keys import Limits, TenantList, TenantName, TenantPublic
from compute.schemas.rules.parameters import WholeNumber

__all__ = ["router"]

router = APIRouter(
    prefix="/admin/tenants", tags=["admin"], dependencies=[Depends(require_admin_key)], route_class=StrictRoute
)
TenantPath = Annotated[TenantName, Path(description="The tenant, as keys and `origin_tenant_id` name it.")]
_LISTED = "tenants"


@router.get("", response_model=TenantList, responses=PAGED)
async def list_tenants(
    request: Request,
    resources: ResourcesDep,
    links: LinksDep,
    limit: Annotated[WholeNumber, Query(ge=1, le=1000, description="At most this many.")] = 100,
    cursor: Annotated[str | None, PATH_CURSOR] = None,
) -> Response:
    """Tenants that have limits, by name. The header `Link` leads to the next page."""
    after = "" if cursor is None else position_of(_LISTED, cursor)
    wanted = select(Tenant).where(Tenant.name > after).order_by(Tenant.name).limit(limit + 1)
    async with resources.database.transaction() as session:
        rows = (await session.scalars(wanted)).all()
    page = Page.of(rows, limit, lambda row: cursor_of(_LISTED, row.name))
    return list_answer(await json_list(page.rows, _present), page.next, request, links, name="tenants")


@router.get("/{tenant}")
async def get_tenant(tenant: TenantPath, resources: ResourcesDep) -> TenantPublic:
    """The limits of one tenant."""
    async with resources.database.transaction() as session:
        row = await session.get(Tenant, tenant)
    if row is None:
        raise NotFound("This tenant has no limits.")
    return _present(row)


@router.put("/{tenant}", response_model=TenantPublic, openapi_extra=LIMITS_BODY)
async def set_limits(tenant: TenantPath, request: Request, resources: ResourcesDep) -> TenantPublic:
    """Set all limits of a tenant; what is absent is without one. Every process knows them within four seconds."""
    limits = validate(Limits, await json_object(request)).model_dump()
    limits |= {"updated_by": caller_of(request).name, "updated_at": datetime.now(UTC)}
    setting = insert(Tenant).values(name=tenant, **limits)
    setting = setting.on_conflict_do_update(index_elements=[Tenant.name], set_=limits)
    async with resources.database.transaction() as session:
        await session.execute(setting)
        row = await session.get_one(Tenant, tenant)
    return _present(row)


def _present(row: Tenant) -> TenantPublic:
    limits = Limits(**{name: getattr(row, name) for name in Limits.model_fields})
    return TenantPublic(name=row.name, limits=limits, updated_by=row.updated_by, updated_at=row.updated_at)
