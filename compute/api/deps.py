"""FastAPI dependencies of the routes: the API key, the process's resources, a transaction.

All of them are coroutines: FastAPI would send a plain function to a thread, which costs more than it does. Even so
each one takes as long as reading a small body; a route that is called often asks `resources_of` instead.
"""

import hmac
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from compute.api.links import RequestLinks
from compute.api.resources import Resources
from compute.errors import Forbidden, Unauthorized

__all__ = [
    "Bearer",
    "LinksDep",
    "ResourcesDep",
    "authenticate",
    "authenticate_admin",
    "authorised",
    "require_admin_key",
    "require_key",
    "resources_of",
]

Bearer = HTTPBearer(auto_error=False, description="The API key, as `Authorization: Bearer <key>`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(Bearer)]


def resources_of(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


async def _resources(request: Request) -> Resources:
    return resources_of(request)


ResourcesDep = Annotated[Resources, Depends(_resources)]


def authorised(given: HTTPAuthorizationCredentials | None, *keys: SecretStr | None) -> bool:
    """Whether a bearer credential is one of `keys`, compared in constant time."""
    if given is None:
        return False
    offered = given.credentials.encode("utf-8", "surrogateescape")
    # Every key is compared, so that the time does not tell which one came close.
    return any(
        [hmac.compare_digest(offered, key.get_secret_value().encode()) for key in keys if key is not None]  # noqa: C419
    )


def authenticate(given: HTTPAuthorizationCredentials | None, resources: Resources) -> None:
    """Raises:
    Unauthorized: no key, or one that we did not give out.
    """
    if not authorised(given, resources.settings.api_key, resources.settings.admin_api_key):
        raise Unauthorized("Send a valid API key as `Authorization: Bearer <key>`.")


def authenticate_admin(given: HTTPAuthorizationCredentials | None, resources: Resources) -> None:
    """Raises:
    Unauthorized: no key, or one that we did not give out.
    Forbidden: the plain API key; also when no ADMIN_API_KEY is set, because then nobody is an administrator.
    """
    authenticate(given, resources)
    if not authorised(given, resources.settings.admin_api_key):
        unset = " None is configured here." if resources.settings.admin_api_key is None else ""
        raise Forbidden(f"This needs the admin key, ADMIN_API_KEY.{unset}")


async def require_key(request: Request, given: Credentials) -> None:
    """A dependency of every route but /health and signed links; `KeyGuard` has asked before the body was read."""
    authenticate(given, resources_of(request))


async def require_admin_key(request: Request, given: Credentials) -> None:
    """As `require_key`, of every route under /admin."""
    authenticate_admin(given, resources_of(request))


async def request_links(request: Request) -> RequestLinks:
    return resources_of(request).links.seen_from(request)


LinksDep = Annotated[RequestLinks, Depends(request_links)]
