"""FastAPI dependencies of the routes: the API key, the process's resources, a transaction.

All of them are coroutines: FastAPI would send a plain function to a thread, which costs more than it does. Even so
each one takes as long as reading a small body; a route that is called often asks `resources_of` instead.
"""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from compute.api.access.caller import Scope, caller_in, caller_of
from compute.api.links import RequestLinks
from compute.api.resources import Resources
from compute.errors import Forbidden

__all__ = [
    "Bearer",
    "Credentials",
    "LinksDep",
    "ResourcesDep",
    "require_admin_key",
    "require_key",
    "resources_of",
]

Bearer = HTTPBearer(auto_error=False, description="The API key, as `Authorization: Bearer <key>`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(Bearer)]


def resources_of(request: Request) -> Resources:
    """The process's resources, as far as the caller of this request may see what is in them."""
    resources: Resources = request.app.state.resources
    caller = caller_in(request.scope)
    return resources if caller is None or caller.tenant is None else resources.confined_to(caller.tenant)


async def _resources(request: Request) -> Resources:
    return resources_of(request)


ResourcesDep = Annotated[Resources, Depends(_resources)]


async def require_key(request: Request, given: Credentials) -> None:
    """A dependency of every route but /health and signed links; `KeyGuard` has asked before the body was read.

    Raises:
        Unauthorized: the request came by an address that needs no key.
    """
    caller_of(request)


async def require_admin_key(request: Request, given: Credentials) -> None:
    """As `require_key`, of every route under /admin.

    Raises:
        Forbidden: the key is no administrator's.
    """
    if Scope.ADMIN not in caller_of(request).scopes:
        raise Forbidden("This needs a key with the scope `admin`.")


async def request_links(request: Request) -> RequestLinks:
    return resources_of(request).links.seen_from(request)


LinksDep = Annotated[RequestLinks, Depends(request_links)]
