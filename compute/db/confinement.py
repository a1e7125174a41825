"""Sessions that see the work of one tenant alone.

The rule is written once, for every statement of such a session: of each table that has an `origin_tenant_id`, the rows
of other tenants are not there. Nobody who asks needs to think of it. What is stored or changed must be the tenant's. A
statement in plain SQL cannot be confined from outside: it is refused, unless it has a parameter `:tenant` whose value
is the session's, or says that it is confined (`execution_options=ALREADY_CONFINED`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from sqlalchemy import TextClause, event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from compute.db.tables.base import Base
from compute.errors import Forbidden

__all__ = ["ALREADY_CONFINED", "ConfinedSession", "all_tenants", "session_info", "tenant_of"]

ALREADY_CONFINED: Mapping[str, Any] = {"already_confined": True}
"""Options of a statement that asks for rows of the session's tenant alone, or for none of anybody's."""
_TENANT = "tenant"


class ConfinedSession(Session):
    """A session that is confined to the tenant in its `info`."""


def session_info(tenant: str) -> dict[str, Any]:
    """The `info` of a session that is confined to a tenant."""
    return {_TENANT: tenant}


def tenant_of(session: AsyncSession) -> str | None:
    """The tenant to whose work a session is confined; None if it sees everybody's."""
    tenant: str | None = session.info.get(_TENANT)
    return tenant


@contextmanager
def all_tenants(session: AsyncSession) -> Iterator[None]:
    """Lift the confinement inside the block: for questions whose answers are not told."""
    tenant = session.info.pop(_TENANT, None)
    try:
        yield
    finally:
        if tenant is not None:
            session.info[_TENANT] = tenant


@cache
def _confined_tables() -> tuple[type[Base], ...]:
    found = {mapper.class_ for mapper in Base.registry.mappers if "origin_tenant_id" in mapper.columns}
    return tuple(sorted(found, key=lambda table: table.__name__))


@event.listens_for(ConfinedSession, "do_orm_execute")
def _confine(state: ORMExecuteState) -> None:
    tenant = state.session.info.get(_TENANT)
    # Columns that are loaded later are those of rows that were found.
    if tenant is None or state.is_column_load or state.is_insert or state.execution_options.get("already_confined"):
        return
    if isinstance(state.statement, TextClause):
        if _names_tenant(state.statement, state.parameters, tenant):
            return
        raise Forbidden("This cannot be asked with a key that is bound to a tenant.")
    state.statement = state.statement.options(
        *(
            with_loader_criteria(table, table.origin_tenant_id == tenant, include_aliases=True)  # type: ignore[attr-defined]
            for table in _confined_tables()
        )
    )


def _names_tenant(statement: TextClause, given: Any, tenant: str) -> bool:
    # Values that a statement does not use are given to it, too.
    return _TENANT in statement._bindparams and isinstance(given, Mapping) and given.get(_TENANT) == tenant


@event.listens_for(ConfinedSession, "before_flush")
def _keep_to_its_own(session: Session, *_: object) -> None:
    tenant = session.info.get(_TENANT)
    if tenant is None:
        return
    for row in (*session.new, *session.dirty):
        if isinstance(row, _confined_tables()) and getattr(row, "origin_tenant_id") != tenant:  # noqa: B009
            raise Forbidden("A key that is bound to a tenant stores work of that tenant alone.")
