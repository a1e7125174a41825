"""Counts of evaluations, kept in the database an hour each: what is said of them outlives every process."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Float, Select, cast, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.tables import Evaluations, ProviderAccount
from compute.providers.calls.account import Account
from compute.providers.ledger.gate import AccountState, Breaker
from compute.schemas.evaluation import HealthStatus

__all__ = ["Counts", "count", "counts_of", "health_of", "state_of"]

_HEALTHY = 0.5
_HALF_OPEN = 0.5
"""The most that the score is while one call finds out how the vendor is."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Evaluations, `seconds` that they took together, and those of the last one to two hours."""

    total: int = 0
    succeeded: int = 0
    seconds: float = 0.0
    recent: int = 0
    recent_failed: int = 0
    """Of the recent ones, those in which the model did not answer as it was asked; refusals do not count."""


async def count(session: AsyncSession, vendor: str, *, succeeded: bool, refused: bool, seconds: float) -> None:
    """Count one evaluation."""
    row = {"total": 1, "succeeded": int(succeeded), "refused": int(refused), "seconds": seconds}
    adding = insert(Evaluations).values(vendor=vendor, hour=_this_hour(), **row)
    await session.execute(
        adding.on_conflict_do_update(
            index_elements=[Evaluations.vendor, Evaluations.hour],
            set_={name: getattr(Evaluations, name) + adding.excluded[name] for name in row},
        )
    )


async def counts_of(session: AsyncSession, vendors: Sequence[str]) -> Counts:
    """The counts of vendors together."""
    row = (await session.execute(_counts(vendors))).one()
    return Counts(*row)


async def state_of(session: AsyncSession, account: Account) -> AccountState:
    """What the ledger knows of the health of an account."""
    row = (
        await session.execute(
            select(ProviderAccount.failures, ProviderAccount.openings, _from_now(ProviderAccount.open_until)).where(
                ProviderAccount.vendor == account.vendor, ProviderAccount.account == account.id
            )
        )
    ).one_or_none()
    return AccountState() if row is None else AccountState(row[0], row[1], open_for=max(row[2] or 0.0, 0.0))


def health_of(counts: Counts, breaker: Breaker, *, set_up: bool) -> HealthStatus:
    """The health that follows. `set_up`: there is an account that would be asked."""
    score = 1.0 - counts.recent_failed / counts.recent if counts.recent else 1.0
    if breaker is Breaker.OPEN or not set_up:
        score = 0.0
    elif breaker is Breaker.HALF_OPEN:
        score = min(score, _HALF_OPEN)
    return HealthStatus(
        is_healthy=score >= _HEALTHY,
        health_score=score,
        total_evaluations=counts.total,
        success_rate=counts.succeeded / counts.total if counts.total else 1.0,
        average_response_time=counts.seconds / counts.total if counts.total else 0.0,
        circuit_breaker_state=breaker,
    )


def _counts(vendors: Sequence[str]) -> Select[Any]:
    def total(column: Any) -> Any:
        return func.coalesce(func.sum(column), 0)

    recent = Evaluations.hour >= _this_hour() - func.make_interval(0, 0, 0, 0, 1)
    failed = Evaluations.total - Evaluations.succeeded - Evaluations.refused
    return select(
        cast(total(Evaluations.total), Evaluations.total.type),
        cast(total(Evaluations.succeeded), Evaluations.total.type),
        cast(total(Evaluations.seconds), Float),
        cast(func.coalesce(func.sum(Evaluations.total).filter(recent), 0), Evaluations.total.type),
        cast(func.coalesce(func.sum(failed).filter(recent), 0), Evaluations.total.type),
    ).where(Evaluations.vendor.in_(vendors))


def _this_hour() -> Any:
    return func.date_trunc("hour", func.now(), "UTC")


def _from_now(column: Any) -> Any:
    """Seconds until a time."""
    return cast(func.extract("epoch", column - func.now()), Float)
