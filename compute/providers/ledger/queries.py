"""Reads the ledger for those who look after it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import any_, func, literal, select, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from compute.db.tables import ProviderAccount, ProviderCall
from compute.providers.calls.call import OPEN, CallState

__all__ = ["COUNTED", "CallCounts", "accounts_of", "calls_of_task", "count_by_provider", "count_by_state"]

COUNTED = 1_000
"""So many calls of each state are counted."""
_LOOKED_AT = 10_000
_BY_STATE = text(
    f"""
SELECT state, (SELECT count(*) FROM (SELECT FROM provider_calls WHERE provider_calls.state = given.state
                                      LIMIT {COUNTED}) AS seen) AS number
  FROM unnest(CAST(:states AS text[])) AS given(state)
"""  # noqa: S608 - constants
)


@dataclass(frozen=True, slots=True)
class CallCounts:
    """Calls of a provider that have not ended."""

    in_flight: int = 0
    uncertain: int = 0


async def count_by_state(session: AsyncSession) -> dict[str, int]:
    """How many calls are in each state, up to `COUNTED`."""
    rows = await session.execute(_BY_STATE, {"states": [state.value for state in CallState]})
    return {row.state: row.number for row in rows}


async def count_by_provider(session: AsyncSession) -> Mapping[str, CallCounts]:
    """The calls that have not ended, by provider."""
    counts: dict[str, CallCounts] = {}
    in_flight, uncertain = await _counted(session, OPEN), await _counted(session, {CallState.UNCERTAIN})
    for provider in in_flight.keys() | uncertain.keys():
        counts[provider] = CallCounts(in_flight.get(provider, 0), uncertain.get(provider, 0))
    return counts


async def accounts_of(session: AsyncSession, vendors: Collection[str]) -> Sequence[ProviderAccount]:
    """The accounts of these vendors that calls were made with."""
    wanted = ProviderAccount.vendor == any_(literal(list(vendors), ARRAY(TEXT)))
    rows = await session.scalars(select(ProviderAccount).where(wanted))
    return rows.all()


async def calls_of_task(session: AsyncSession, task_id: UUID) -> Sequence[ProviderCall]:
    """The calls of a task, in their order, without their results."""
    known = select(ProviderCall).where(ProviderCall.task_id == task_id).options(defer(ProviderCall.result))
    rows = await session.scalars(known.order_by(ProviderCall.created_at, ProviderCall.id))
    return rows.all()


async def _counted(session: AsyncSession, states: Collection[CallState]) -> dict[str, int]:
    some = select(ProviderCall.provider).where(ProviderCall.state.in_(states)).limit(_LOOKED_AT).subquery()
    rows = await session.execute(select(some.c.provider, func.count().label("number")).group_by(some.c.provider))
    return {row.provider: row.number for row in rows}
