"""Keys of the API, their tenants, and what both may use."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from compute.schemas.rules.segments import SEGMENT
from compute.schemas.rules.strict import JsonBody
from compute.schemas.rules.text import VISIBLE

__all__ = [
    "ApiKeyCreate",
    "ApiKeyList",
    "ApiKeyPublic",
    "ApiKeyRotate",
    "ApiKeyUpdate",
    "ApiKeyWithSecret",
    "CurrentKey",
    "KeyScope",
    "Limits",
    "TenantList",
    "TenantName",
    "TenantPublic",
]

_OF_NOBODY = "default"
"""The tenant of tasks without one."""
_MOST_REQUESTS, _MOST_CONCURRENT, _MOST_DAILY = 1_000_000, 10_000, 100_000_000
_LONGEST_GRACE = 30 * 24 * 3600


class KeyScope(StrEnum):
    """What a key may do. Each includes those before it."""

    READ = "read"
    SUBMIT = "submit"
    OPERATE = "operate"
    ADMIN = "admin"


def _tenant(value: str) -> str:
    if value == _OF_NOBODY:
        raise PydanticCustomError("tenant", "must not be `default`, which is the tenant of all tasks without one")
    return value


def _to_come(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise PydanticCustomError("timezone_aware", "must have a time zone, as in 2027-01-31T00:00:00Z")
    if value <= datetime.now(UTC):
        raise PydanticCustomError("in_the_future", "must be in the future")
    return value


TenantName = Annotated[str, Field(pattern=r"^[!-.0-~]{1,64}$"), SEGMENT, AfterValidator(_tenant)]
"""1 to 64 visible characters of ASCII, without a slash."""
_KeyName = Annotated[str, VISIBLE, Field(min_length=1, max_length=100)]
_Expiry = Annotated[datetime, AfterValidator(_to_come)]


class Limits(JsonBody):
    """What may be used; null is without a limit."""

    requests_per_minute: int | None = Field(
        default=None, ge=1, le=_MOST_REQUESTS, description="Requests of any kind in one minute."
    )
    concurrent_tasks: int | None = Field(
        default=None,
        ge=1,
        le=_MOST_CONCURRENT,
        description="Tasks that have not ended; a workflow counts as many as it has steps, a training one.",
    )
    tasks_per_day: int | None = Field(
        default=None, ge=1, le=_MOST_DAILY, description="The same, accepted in one day in UTC."
    )


class CurrentKey(BaseModel):
    """The key of a request."""

    id: UUID | None = Field(description="Null for the keys of the settings, API_KEY and ADMIN_API_KEY.")
    name: str
    scope: KeyScope = Field(description="The most that it may do; it includes the scopes before it.")
    tenant: str | None = Field(description="The tenant to whose work it is bound; null for a key that sees everything.")


class ApiKeyCreate(JsonBody):
    """A request for a key."""

    name: _KeyName = Field(description="Whose it is, for people.")
    scope: KeyScope = Field(default=KeyScope.SUBMIT, description="What it may do, with all that this includes.")
    tenant: TenantName | None = Field(
        default=None, description="The tenant to whose work it is bound; null for a key that sees everything."
    )
    expires_at: _Expiry | None = Field(default=None, description="When it stops to work; null for never.")
    limits: Limits = Field(default_factory=Limits)


class ApiKeyUpdate(JsonBody):
    """Changes to a key. What is absent stays; null takes an expiry away."""

    name: _KeyName | None = None
    scope: KeyScope | None = None
    expires_at: _Expiry | None = None
    limits: Limits | None = Field(default=None, description="All of them: what is absent in it is without a limit.")


class ApiKeyRotate(JsonBody):
    """A new secret for a key."""

    grace_seconds: int = Field(
        default=24 * 3600, ge=0, le=_LONGEST_GRACE, description="For how long the old secret works beside the new one."
    )
    end_previous: bool = Field(
        default=False,
        description="Whether the secret before the present one may end now, if it still works after an earlier "
        "rotation. Only two work at a time; without grace both end.",
    )


class ApiKeyPublic(BaseModel):
    """A key, without its secret, which nobody knows but its holder."""

    id: UUID
    name: str
    prefix: str = Field(description="How its text begins.")
    scope: KeyScope
    tenant: str | None = None
    limits: Limits
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    previous_until: datetime | None = Field(default=None, description="Until when the secret before works, too.")
    last_used_at: datetime | None = Field(default=None, description="True to about half a minute.")
    created_by: str = Field(description="The name of the key with which it was made.")
    created_at: datetime
    updated_at: datetime


class ApiKeyWithSecret(ApiKeyPublic):
    """A key with its text, which is told this once."""

    key: str | None = Field(
        default=None, description="The whole key. Null where a repeated `Idempotency-Key` gets the first answer again."
    )


class ApiKeyList(BaseModel):
    """A page of keys, newest first."""

    keys: list[ApiKeyPublic]
    next_cursor: str | None = None


class TenantPublic(BaseModel):
    """What all keys of a tenant may use together."""

    name: str
    limits: Limits
    updated_by: str
    updated_at: datetime


class TenantList(BaseModel):
    """A page of tenants that have limits, by name."""

    tenants: list[TenantPublic]
    next_cursor: str | None = None
