"""/providers: who does work elsewhere; the calls that are paid for it, and what an operator does with lost ones."""

from functools import partial

from fastapi import APIRouter, Depends, Request, Response

from compute.api.bodies.json_body import json_object
from compute.api.deps import LinksDep, ResourcesDep, require_admin_key, require_key
from compute.api.http.strict import StrictRoute
from compute.api.idempotency.keys import IdempotencyHeader, IdempotentRequest
from compute.api.openapi.request_bodies import SETTLE_BODY
from compute.api.paging import PAGED, json_list, list_answer
from compute.api.providers.presenter import accounts_for, present_call, present_provider
from compute.api.providers.queries import CallId, CallQuery, find_calls, read_call_id
from compute.api.providers.settle import settle_call
from compute.providers.ledger.queries import CallCounts, accounts_of, count_by_provider, count_by_state
from compute.providers.ledger.settling import find_call
from compute.providers.registry import all_providers
from compute.requests.validate import validate
from compute.schemas.calls import ProviderCallList, ProviderCallPublic, ProviderPublic, SettleCall

__all__ = ["calls_router", "router"]

router = APIRouter(
    prefix="/providers", tags=["Providers"], dependencies=[Depends(require_key)], route_class=StrictRoute
)
calls_router = APIRouter(
    prefix="/providers/calls", tags=["Providers"], dependencies=[Depends(require_admin_key)], route_class=StrictRoute
)


@router.get("")
async def list_providers(resources: ResourcesDep) -> list[ProviderPublic]:
    """Every provider: what it can do, whether its settings are there, and how its accounts are."""
    settings, providers = resources.settings, all_providers().values()
    vendors = {account.vendor for provider in providers for account in accounts_for(provider, settings)[0]}
    async with resources.database.transaction() as session:
        rows = await accounts_of(session, vendors)
        counts = await count_by_provider(session)
    return [present_provider(one, settings, rows, counts.get(one.name, CallCounts())) for one in providers]


@calls_router.get("", response_model=ProviderCallList, responses=PAGED)
async def list_provider_calls(
    filters: CallQuery, request: Request, resources: ResourcesDep, links: LinksDep
) -> Response:
    """Paid calls, newest first. The header `Link` leads to the next page. Calls that have ended go with their tasks."""
    async with resources.database.transaction() as session:
        page = await find_calls(session, filters)
        counts = await count_by_state(session)
    rendered = await json_list(page.rows, partial(present_call, settings=resources.settings))
    return list_answer(rendered, page.next, request, links, name="calls", rest={"counts": counts})


@calls_router.get("/{call_id}")
async def get_provider_call(call_id: CallId, resources: ResourcesDep) -> ProviderCallPublic:
    """One paid call, with all requests that were made for it."""
    async with resources.database.transaction() as session:
        call = await find_call(session, read_call_id(call_id))
        return present_call(call, resources.settings, whole=True)


@calls_router.post("/{call_id}/settle", response_model=ProviderCallPublic, openapi_extra=SETTLE_BODY)
async def settle_provider_call(
    call_id: CallId, request: Request, resources: ResourcesDep, key: IdempotencyHeader = None
) -> Response:
    """Say what became of a call that is UNCERTAIN: it was sent, and its answer was lost.

    Its task, if it waits, goes on at once. 409 for a call in any other state, so that of two operators one is refused;
    for `collect` also where the vendor does not know the id, or answers at once and keeps nothing; and for all but
    `give_up` where the task has ended.
    """
    body = await json_object(request)
    said = validate(SettleCall, body)
    idempotent = await IdempotentRequest.of(key, request, body)
    act = partial(settle_call, resources, read_call_id(call_id), said, idempotent)
    return await idempotent.settle(resources.database, act)
