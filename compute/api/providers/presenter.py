"""Providers and paid calls as an operator sees them. No key is shown, and no body."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from compute.api.columns import shown_columns
from compute.db.tables import ProviderAccount, ProviderCall
from compute.errors import InvalidInput
from compute.providers.base import Provider, RemoteProvider
from compute.providers.calls.account import Account
from compute.providers.ledger.gate import AccountState
from compute.providers.ledger.queries import CallCounts
from compute.schemas.calls import ProviderAccountPublic, ProviderCallPublic, ProviderPublic, ServiceRequestPublic
from compute.settings import Settings
from compute.tasks.registry import all_kinds

__all__ = ["accounts_for", "present_call", "present_provider", "service_requests"]

_MEANT_FOR_ONE = ("requests", "files")
_FROM_ROW = shown_columns(ProviderCallPublic, ProviderCall, but=(*_MEANT_FOR_ONE, "amount"))


def accounts_for(provider: Provider, settings: Settings) -> tuple[list[Account], str | None]:
    """The accounts that pay for a provider's tasks; without any, which setting is missing, in a sentence."""
    if not isinstance(provider, RemoteProvider):
        return [], None
    try:
        return provider.accounts(settings), None
    except InvalidInput as missing:
        return [], missing.detail


def present_provider(
    provider: Provider, settings: Settings, rows: Sequence[ProviderAccount], counts: CallCounts
) -> ProviderPublic:
    accounts, missing = accounts_for(provider, settings)
    health = {(row.vendor, row.account): row for row in rows}
    able = {kind.name: provider.capabilities(kind) for kind in all_kinds().values()}
    return ProviderPublic(
        name=provider.name,
        queue=provider.queue_for(settings),
        ready=missing is None,
        missing=missing,
        capabilities={name: sorted(found) for name, found in able.items() if found},
        accounts=[_account(one, health.get((one.vendor, one.id))) for one in accounts],
        in_flight=counts.in_flight,
        uncertain=counts.uncertain,
    )


def present_call(call: ProviderCall, settings: Settings, *, whole: bool = False) -> ProviderCallPublic:
    """A call; `whole` with its files and requests."""
    fields: dict[str, Any] = {name: getattr(call, name) for name in _FROM_ROW}
    fields["amount"] = None if call.amount is None else float(call.amount)
    if whole:
        fields["files"] = [file["path"] for file in (call.result or {}).get("files", ())]
        fields["requests"] = [ServiceRequestPublic(**line) for line in call.requests]
    return ProviderCallPublic(**fields, currency=settings.currency)


def service_requests(calls: Iterable[ProviderCall]) -> list[dict[str, Any]]:
    """All requests that were made for a task, call by call."""
    return [
        {"call_id": str(call.id), "part": call.part, "attempt": call.attempt, "provider": call.provider, **line}
        for call in calls
        for line in call.requests
    ]


def _account(account: Account, row: ProviderAccount | None) -> ProviderAccountPublic:
    now = datetime.now(UTC)
    open_until = row and _later(row.open_until, now)
    open_for = (open_until - now).total_seconds() if open_until else 0.0
    state = AccountState(openings=row.openings if row is not None else 0, open_for=open_for)
    return ProviderAccountPublic(
        vendor=account.vendor,
        account=account.id,
        breaker=state.breaker,
        open_until=open_until,
        paused_until=row and _later(row.paused_until, now),
        failures=row.failures if row is not None else 0,
    )


def _later(at: datetime | None, now: datetime) -> datetime | None:
    return at if at is not None and at > now else None
