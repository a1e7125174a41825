"""Administration: keys, limits of tenants, and the audit log. All of it needs a key with the scope `admin`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compute.client.aio.pages import AsyncPages
from compute.client.aio.transport import AsyncTransport
from compute.client.common.calls import Call, fields_of, post, reading, segment, with_json
from compute.client.common.reading import reader
from compute.client.errors import SecretLostError

if TYPE_CHECKING:
    from compute.schemas.admin.audit import AuditEntryPublic
    from compute.schemas.admin.keys import ApiKeyPublic, ApiKeyWithSecret, TenantPublic

__all__ = ["AsyncAdmin", "AsyncKeys"]

_key = reader("admin.keys", "ApiKeyPublic")
_secret = reader("admin.keys", "ApiKeyWithSecret")
_tenant = reader("admin.keys", "TenantPublic")
_entry = reader("admin.audit", "AuditEntryPublic")


class AsyncKeys:
    """API keys."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, name: str, *, idempotency_key: str | None = None, **fields: Any) -> ApiKeyWithSecret:
        """Make a key. Its secret is in this answer alone.

        Args:
            fields: `scope`, `tenant`, `limits`, `expires_at`, as the API has them.

        Raises:
            SecretLostError: the key was made, and the answer with its secret was lost.
        """
        call = post("/admin/keys", {"name": name, **fields}, key=idempotency_key)
        return _with_secret(await self._transport.json(call))

    async def get(self, key_id: Any) -> ApiKeyPublic:
        """One key, without its secret."""
        found: ApiKeyPublic = _key(await self._transport.json(reading(_path(key_id))))
        return found

    async def update(self, key_id: Any, **changes: Any) -> ApiKeyPublic:
        """Change what a key may do."""
        found: ApiKeyPublic = _key(await self._transport.json(with_json(Call("PATCH", _path(key_id)), changes)))
        return found

    async def rotate(
        self,
        key_id: Any,
        *,
        grace_seconds: int | None = None,
        end_previous: bool = False,
        idempotency_key: str | None = None,
    ) -> ApiKeyWithSecret:
        """Make a new secret; the old one is valid for `grace_seconds` more.

        Raises:
            ConflictError: one before the old one is valid still; with `end_previous` it ends now.
            SecretLostError: the key has a new secret, and the answer with it was lost.
        """
        call = post(
            f"{_path(key_id)}/rotate",
            fields_of(grace_seconds=grace_seconds, end_previous=end_previous or None),
            key=idempotency_key,
        )
        return _with_secret(await self._transport.json(call))

    async def revoke(self, key_id: Any) -> ApiKeyPublic:
        """End a key at once."""
        found: ApiKeyPublic = _key(await self._transport.json(Call("DELETE", _path(key_id))))
        return found

    def list(self, *, tenant: str | None = None, page_size: int | None = None) -> AsyncPages[ApiKeyPublic]:
        """Keys, newest first, fetched as they are walked."""
        call = reading("/admin/keys", {"tenant": tenant, "limit": page_size})
        return AsyncPages(self._transport, call, "keys", _key)


class AsyncAdmin:
    """What administrators do.

    Attributes:
        keys: API keys.
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self.keys = AsyncKeys(transport)

    def audit(self, *, page_size: int | None = None, **filters: Any) -> AsyncPages[AuditEntryPublic]:
        """Who did what, newest first, by any filter of the API, fetched as it is walked."""
        call = reading("/admin/audit", filters | {"limit": page_size})
        return AsyncPages(self._transport, call, "entries", _entry)

    def tenants(self, *, page_size: int | None = None) -> AsyncPages[TenantPublic]:
        """Tenants that have limits, fetched as they are walked."""
        return AsyncPages(self._transport, reading("/admin/tenants", {"limit": page_size}), "tenants", _tenant)

    async def tenant(self, name: str) -> TenantPublic:
        """One tenant and its limits."""
        found: TenantPublic = _tenant(await self._transport.json(reading(f"/admin/tenants/{segment(name)}")))
        return found

    async def set_limits(self, tenant: str, **limits: Any) -> TenantPublic:
        """Set the limits of a tenant; one that is left out is lifted."""
        call = with_json(Call("PUT", f"/admin/tenants/{segment(tenant)}"), limits)
        found: TenantPublic = _tenant(await self._transport.json(call))
        return found


def _with_secret(body: Any) -> ApiKeyWithSecret:
    """A key with its secret.

    Raises:
        SecretLostError: it has none, because the first answer was lost.
    """
    found: ApiKeyWithSecret = _secret(body)
    if not found.key:
        said = f"the answer with the secret of the API key {found.id} was lost: rotate the key, or revoke it"
        raise SecretLostError(said, found)
    return found


def _path(key_id: Any) -> str:
    return f"/admin/keys/{segment(getattr(key_id, 'id', key_id))}"
