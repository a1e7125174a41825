"""The caller of a request: whose key it is, and what that key may do."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from starlette.requests import HTTPConnection
from starlette.types import Scope as AsgiScope

from compute.api.access.rates import RateLimit
from compute.errors import Unauthorized
from compute.schemas.admin.keys import KeyScope
from compute.tasks.submission.quotas import Quota

__all__ = ["ADMINISTRATOR", "PLAIN", "Caller", "Scope", "caller_in", "caller_of", "scopes_up_to", "set_caller"]

_CALLER = "caller"


Scope = KeyScope
"""What a key may do. Each includes those before it."""


def scopes_up_to(highest: Scope) -> frozenset[Scope]:
    """The scope and all that it includes."""
    order = list(Scope)
    return frozenset(order[: order.index(highest) + 1])


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request.

    Attributes:
        name: The name of the key.
        scopes: What it may do, with everything that this includes.
        tenant: The tenant to whose work it is bound; None for a key that is free.
        key_id: The id of the key's row; None for the two keys of the settings.
        rates: How many requests may be sent.
        quotas: How many tasks may be open, and be accepted in a day.
    """

    name: str
    scopes: frozenset[Scope]
    tenant: str | None = None
    key_id: UUID | None = None
    rates: tuple[RateLimit, ...] = ()
    quotas: tuple[Quota, ...] = ()


PLAIN: Final = Caller("API_KEY", scopes_up_to(Scope.OPERATE))
"""Whoever has API_KEY."""
ADMINISTRATOR: Final = Caller("ADMIN_API_KEY", scopes_up_to(Scope.ADMIN))
"""Whoever has ADMIN_API_KEY."""


def caller_of(request: HTTPConnection) -> Caller:
    """The caller of a request that has passed `KeyGuard`.

    Raises:
        Unauthorized: it came without a key, by a signed address.
    """
    caller = caller_in(request.scope)
    if caller is None:
        raise Unauthorized("Send a valid API key as `Authorization: Bearer <key>`.")
    return caller


def caller_in(scope: AsgiScope) -> Caller | None:
    """The same of an ASGI scope; None for a request without a key."""
    caller: Caller | None = scope.get("state", {}).get(_CALLER)
    return caller


def set_caller(scope: AsgiScope, caller: Caller) -> None:
    """Note who sent the request of this scope."""
    scope.setdefault("state", {})[_CALLER] = caller
