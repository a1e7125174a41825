"""Keys as rows: made, listed, changed, rotated, revoked. One transaction each, opened by the caller.

All times are the database's, which judges them later: the clock of this machine may be wrong.
"""

from datetime import UTC, datetime
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.access.tokens import PREFIX, new_secret, token_text
from compute.api.paging import CURSOR, SKIP, CursorText, Page, SkipNumber, page_by_time
from compute.db.keys import lock_row
from compute.db.lists.pages import Listing, Partial
from compute.db.tables import ApiKey
from compute.errors import Conflict, InvalidInput
from compute.schemas.admin.keys import ApiKeyCreate, ApiKeyUpdate, KeyScope
from compute.schemas.rules.parameters import Label, WholeNumber
from compute.tasks.ids import new_task_id

__all__ = ["KeyFilters", "create", "find_keys", "prefix_of", "revoke", "rotate", "update"]

_LISTED = "keys"
_LISTING = Listing(ApiKey, "keys", (Partial("tenant", "tenant IS NOT NULL"),))


class KeyFilters(BaseModel):
    """The query of `GET /admin/keys`."""

    limit: WholeNumber = Field(default=100, ge=1, le=1000, description="At most this many keys.")
    skip: SkipNumber = SKIP
    cursor: CursorText = CURSOR
    tenant: Label | None = Field(default=None, description="Only keys of this tenant.")


def prefix_of(key_id: UUID) -> str:
    """How the text of a key begins, by which it can be found without telling it."""
    return f"{PREFIX}{key_id.hex}"


async def create(session: AsyncSession, asked: ApiKeyCreate, created_by: str) -> tuple[ApiKey, str]:
    """Store a new key; returns its row and its text, which is nowhere else.

    Raises:
        InvalidInput: an administrator's key cannot be bound to a tenant.
    """
    _check(asked.scope, asked.tenant)
    secret, hashed = new_secret()
    row = ApiKey(
        id=new_task_id(),
        name=asked.name,
        hash=hashed,
        scope=asked.scope,
        tenant=asked.tenant,
        expires_at=asked.expires_at,
        created_by=created_by,
        **asked.limits.model_dump(),
    )
    session.add(row)
    await session.flush()
    await session.refresh(row)
    return row, token_text(row.id, secret)


async def find_keys(session: AsyncSession, filters: KeyFilters) -> Page[ApiKey]:
    """The keys that match, newest first.

    Raises:
        BadRequest: a cursor that is none of this list.
    """
    asked = {} if filters.tenant is None else {"tenant": (filters.tenant,)}
    return await page_by_time(session, _LISTING, _LISTED, asked, filters)


async def update(session: AsyncSession, key_id: UUID, changes: ApiKeyUpdate) -> ApiKey:
    """Apply what was sent.

    Raises:
        NotFound: there is no such key.
        Conflict: it was revoked.
        InvalidInput: an administrator's key cannot be bound to a tenant, or a value is null that cannot be.
    """
    given = changes.model_dump(exclude_unset=True)
    for name in ("name", "scope", "limits"):
        if name in given and given[name] is None:
            raise InvalidInput(f"Field `{name}` must not be null.", field=name)
    row = await _unrevoked(session, key_id)
    if changes.scope is not None:
        _check(changes.scope, row.tenant)
    limits = given.pop("limits", None)
    if changes.limits is not None and limits is not None:
        given |= changes.limits.model_dump()
    for name, value in given.items():
        setattr(row, name, value)
    row.updated_at = func.now()
    await session.flush()
    await session.refresh(row)
    return row


async def rotate(
    session: AsyncSession, key_id: UUID, grace_seconds: int, *, end_previous: bool = False
) -> tuple[ApiKey, str]:
    """Give a key another secret; returns its row and its text. The secret that was valid until now works for
    `grace_seconds` more, and one before that no more.

    Raises:
        NotFound: there is no such key.
        Conflict: it was revoked, or there is one before that, which works still and may not end.
    """
    row = await _unrevoked(session, key_id)
    if grace_seconds and not end_previous:
        _check_no_previous(row, await session.scalar(select(func.now())))
    secret, hashed = new_secret()
    row.previous_hash = row.hash if grace_seconds else None
    row.previous_until = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, grace_seconds) if grace_seconds else None
    row.hash, row.updated_at = hashed, func.now()
    await session.flush()
    await session.refresh(row)
    return row, token_text(row.id, secret)


async def revoke(session: AsyncSession, key_id: UUID) -> ApiKey:
    """Take a key back; doing it again changes nothing.

    Raises:
        NotFound: there is no such key.
    """
    row = await lock_row(session, ApiKey, key_id)
    if row.revoked_at is None:
        row.revoked_at = row.updated_at = func.now()
        await session.flush()
        await session.refresh(row)
    return row


def _check_no_previous(row: ApiKey, now: datetime | None) -> None:
    if now is not None and row.previous_until is not None and row.previous_until > now:
        until = row.previous_until.astimezone(UTC).isoformat(timespec="seconds")
        raise Conflict(
            f"Key {row.id} was rotated before, and the secret from before that works until {until}. Only two work at a "
            "time: send `end_previous` to end that one now."
        )


async def _unrevoked(session: AsyncSession, key_id: UUID) -> ApiKey:
    row = await lock_row(session, ApiKey, key_id)
    if row.revoked_at is not None:
        raise Conflict(f"Key {key_id} was revoked; make another one.")
    return row


def _check(scope: KeyScope, tenant: str | None) -> None:
    if scope is KeyScope.ADMIN and tenant is not None:
        raise InvalidInput("A key of a tenant has one of the scopes read, submit and operate.", field="scope")
