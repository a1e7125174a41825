"""/key: the key that a request was sent with."""

from fastapi import APIRouter, Request

from compute.api.access.caller import Scope, caller_of
from compute.api.http.strict import StrictRoute
from compute.schemas.admin.keys import CurrentKey

__all__ = ["router"]

router = APIRouter(prefix="/key", tags=["Keys"], route_class=StrictRoute)


@router.get("")
async def get_current_key(request: Request) -> CurrentKey:
    """The key that this request was sent with: its name, what it may do, and the tenant that it is bound to."""
    caller = caller_of(request)
    highest = max(caller.scopes, key=list(Scope).index)
    return CurrentKey(id=caller.key_id, name=caller.name, scope=highest, tenant=caller.tenant)
