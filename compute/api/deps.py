"""What routes depend on: the key, the resources, a transaction."""

import hmac
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from compute.api.links import RequestLinks
from compute.api.resources import Resources
from compute.errors import Unauthorized

__all__ = ["Bearer", "LinksDep", "ResourcesDep", "authenticate", "authorised", "require_key"]

Bearer = HTTPBearer(auto_error=False, description="The API key, as `Authorization: Bearer <key>`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(Bearer)]


def resources(request: Request) -> Resources:
    held: Resources = request.app.state.resources
    return held


ResourcesDep = Annotated[Resources, Depends(resources)]


def authorised(given: HTTPAuthorizationCredentials | None, *keys: SecretStr | None) -> bool:
    """Whether a bearer credential is one of `keys`, compared in constant time."""
    if given is None:
        return False
    offered = given.credentials.encode("utf-8", "surrogateescape")
    # Every key is compared, so that the time does not tell which one came close.
    return any(
        [hmac.compare_digest(offered, key.get_secret_value().encode()) for key in keys if key is not None]  # noqa: C419
    )


def authenticate(given: HTTPAuthorizationCredentials | None, held: Resources) -> None:
    """Raises:
    Unauthorized: no key, or one that we did not give out.
    """
    if not authorised(given, held.settings.api_key, held.settings.admin_api_key):
        raise Unauthorized("Send a valid API key as `Authorization: Bearer <key>`.")


def require_key(given: Credentials, held: ResourcesDep) -> None:
    """A dependency of every route but /health and signed links."""
    authenticate(given, held)


def request_links(request: Request, held: ResourcesDep) -> RequestLinks:
    return held.links.seen_from(request)


LinksDep = Annotated[RequestLinks, Depends(request_links)]
