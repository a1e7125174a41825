"""Work of a tenant's key: its files, and what its requests say of the tenant."""

from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import select

from compute.db.session import Database
from compute.db.tables import Task, Training
from compute.errors import InvalidInput
from compute.media.loader import MediaLoader
from compute.requests.inputs import InputSources
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.storage.links.signed import LinkSigner
from compute.storage.tenants import TenantFiles
from compute.tasks.registry import all_kinds

__all__ = ["TenantSources", "check_tenant", "files_of", "labelled"]

_FIELD = "origin_tenant_id"
_TRAININGS = "training"


def files_of(tenant: str, objects: ObjectStore, database: Database) -> TenantFiles:
    """The object store as a caller sees it who is bound to a tenant."""
    return TenantFiles(objects, tenant, partial(_made_by, tenant, database))


@dataclass(frozen=True, slots=True)
class TenantSources:
    """The sources of inputs of a tenant's request: those of everybody, but for the files."""

    behind: InputSources
    objects: ObjectStore

    @property
    def settings(self) -> Settings:
        return self.behind.settings

    @property
    def media(self) -> MediaLoader:
        return self.behind.media

    @property
    def link_signer(self) -> LinkSigner:
        return self.behind.link_signer


def labelled(fields: dict[str, Any], tenant: str | None) -> dict[str, Any]:
    """The fields of a request for work, with the tenant to which its caller is bound, if that is so.

    Raises:
        InvalidInput: they name another tenant.
    """
    if tenant is None:
        return fields
    check_tenant(fields.get(_FIELD), tenant)
    return fields | {_FIELD: tenant}


def check_tenant(named: Any, tenant: str | None) -> None:
    """Check the tenant that a request names.

    Raises:
        InvalidInput: it is another one than that to which the caller is bound.
    """
    if tenant is not None and named is not None and named != tenant:
        raise InvalidInput(f"Field `{_FIELD}` must be `{tenant}` with this key, or be left out.", field=_FIELD)


async def _made_by(tenant: str, database: Database, path: str) -> bool:
    """Whether a path lies in the folder of a task or training of the tenant."""
    folder, _, rest = path.partition("/")
    name = rest.partition("/")[0]
    try:
        made_id = UUID(name)
    except ValueError:
        return False
    types = [kind.name.value for kind in all_kinds().values() if kind.folder == folder]
    if str(made_id) != name or not (types or folder == _TRAININGS):
        return False
    found = select(Task.id).where(Task.id == made_id, Task.origin_tenant_id == tenant, Task.task_type.in_(types))
    if not types:
        found = select(Training.id).where(Training.id == made_id, Training.origin_tenant_id == tenant)
    async with database.transaction() as session:
        return await session.scalar(found) is not None
