"""Calls that are about to leave: those that were made before are found, and the others let through or not."""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from compute.db.session import Connection
from compute.errors import LeaseLost, ProviderFailed
from compute.providers.calls.call import AGAIN, Call, CallState, Intent
from compute.providers.calls.ledger import Pause
from compute.providers.ledger.accounts import AccountKey, Accounts
from compute.providers.ledger.gate import BreakerPolicy, Limits, admit
from compute.schemas.enums import ErrorCategory
from compute.tasks.states import LEASED

__all__ = ["BeginPolicy", "Begun", "account_key", "begin_all"]

Begun = Call | Pause | LeaseLost | ProviderFailed
"""The call, when to ask again, or the error to raise."""

_LOOKS_AGAIN_SECONDS = 0.5
_LEASED = ", ".join(sorted(f"'{status}'" for status in LEASED))
_GIVEN = """jsonb_to_recordset(%(intents)s) AS given(
       ordinal int, id uuid, task_id uuid, fence bigint, provider text, part text)"""
_HELD = f"""
SELECT given.ordinal, tasks.tenant, tasks.task_type,
       coalesce((SELECT extract(epoch FROM clock_timestamp() - min(calls.created_at)) FROM provider_calls calls
                  WHERE calls.task_id = tasks.id), 0)::float8
  FROM {_GIVEN}
  JOIN tasks ON tasks.id = given.task_id AND tasks.fence = given.fence AND tasks.status IN ({_LEASED})
"""
_COLUMNS = """calls.id, calls.part, calls.state, calls.attempt, calls.vendor_id, calls.addresses, calls.result,
       calls.units, calls.error, extract(epoch FROM clock_timestamp() - calls.created_at)::float8,
       coalesce(extract(epoch FROM clock_timestamp() - calls.uncertain_at), 0)::float8"""
_LATEST = f"""
SELECT given.ordinal, {_COLUMNS}
  FROM {_GIVEN}, LATERAL (
       SELECT * FROM provider_calls
        WHERE provider_calls.task_id = given.task_id AND provider_calls.provider = given.provider
          AND provider_calls.part = given.part
        ORDER BY provider_calls.attempt DESC LIMIT 1) calls
 WHERE given.task_id IS NOT NULL
UNION ALL
SELECT given.ordinal, {_COLUMNS}
  FROM {_GIVEN}, LATERAL (
       SELECT * FROM provider_calls
        WHERE provider_calls.task_id IS NULL AND provider_calls.part = given.part
        ORDER BY provider_calls.attempt DESC LIMIT 1) calls
 WHERE given.task_id IS NULL
"""
_INSERT = """
INSERT INTO provider_calls
       (id, task_id, fence, part, attempt, tenant, task_type, provider, vendor, account, endpoint, state)
SELECT id, task_id, fence, part, attempt, tenant, task_type, provider, vendor, account, endpoint, 'INTENT'
  FROM jsonb_to_recordset(%(rows)s) AS given(
       id uuid, task_id uuid, fence bigint, part text, attempt int, tenant text, task_type text, provider text,
       vendor text, account text, endpoint text)
"""


@dataclass(frozen=True, slots=True)
class _Held:
    """What a task's row says; `seconds` have passed since its first call."""

    tenant: str | None = None
    task_type: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class BeginPolicy:
    """`budget_seconds`: a task whose first call is older makes no new one. `answer_seconds`: an intent without a task
    that is younger may be under way in another process."""

    limits: Limits
    breaker: BreakerPolicy
    budget_seconds: float
    answer_seconds: float


async def begin_all(
    connection: Connection, intents: Sequence[Intent], accounts: Accounts, policy: BeginPolicy
) -> list[Begun]:
    """Find or insert calls, in the caller's transaction. Repeated, it gives the same answer."""
    given = {"intents": Jsonb([_key(ordinal, intent) for ordinal, intent in enumerate(intents)])}
    held = {
        ordinal: _Held(tenant, task_type, seconds)
        for ordinal, tenant, task_type, seconds in await (await connection.execute(_HELD, given)).fetchall()
    }
    known = {row[0]: row[1:] for row in await (await connection.execute(_LATEST, given)).fetchall()}
    begun: dict[int, Begun] = {}
    fresh: list[tuple[int, Intent, int]] = []
    for ordinal, intent in enumerate(intents):
        latest = _call(intent, known[ordinal]) if ordinal in known else None
        if intent.task_id is not None and ordinal not in held:
            begun[ordinal] = LeaseLost("The task was cancelled, or is another worker's now.")
        elif latest is not None and _is_under_way(intent, latest, policy):
            begun[ordinal] = Pause(_LOOKS_AGAIN_SECONDS, "The same is being asked.")
        elif latest is not None and latest.state not in AGAIN:
            begun[ordinal] = latest
        elif held.get(ordinal, _Held()).seconds > policy.budget_seconds:
            begun[ordinal] = _too_late(policy.budget_seconds)
        else:
            fresh.append((ordinal, intent, 1 if latest is None else latest.attempt + 1))
    if fresh:
        await _let_through(connection, fresh, held, begun, accounts, policy)
    return [begun[ordinal] for ordinal in range(len(intents))]


async def _let_through(
    connection: Connection,
    fresh: Sequence[tuple[int, Intent, int]],
    held: dict[int, _Held],
    begun: dict[int, Begun],
    accounts: Accounts,
    policy: BeginPolicy,
) -> None:
    """Insert those calls that may leave now; note what becomes of each in `begun`."""
    for key in {account_key(intent) for _, intent, _ in fresh}:
        await accounts.count(key, policy.limits)
    rows = []
    for ordinal, intent, attempt in fresh:
        key = account_key(intent)
        accounts.states[key], pause = admit(accounts.states[key], policy.limits.of(key[0]), policy.breaker)
        if pause is not None:
            begun[ordinal] = pause
            continue
        begun[ordinal] = Call(intent.id, intent.part, CallState.INTENT, True, attempt)
        rows.append(_row(intent, attempt, held.get(ordinal, _Held())))
    if rows:
        await connection.execute(_INSERT, {"rows": Jsonb(rows)})


def account_key(intent: Intent) -> AccountKey:
    """Who pays for it."""
    return intent.account.vendor, intent.account.id


def _key(ordinal: int, intent: Intent) -> dict[str, Any]:
    return {
        "ordinal": ordinal,
        "id": str(intent.id),
        "task_id": intent.task_id and str(intent.task_id),
        "fence": intent.fence,
        "provider": intent.provider,
        "part": intent.part,
    }


def _row(intent: Intent, attempt: int, held: _Held) -> dict[str, Any]:
    vendor, account = account_key(intent)
    return _key(0, intent) | {
        "attempt": attempt,
        "tenant": held.tenant,
        "task_type": held.task_type,
        "vendor": vendor,
        "account": account,
        "endpoint": intent.endpoint,
    }


def _call(intent: Intent, row: Sequence[Any]) -> Call:
    call_id, part, state, attempt, vendor_id, addresses, result, units, error, age, uncertain = row
    # An earlier try of this very write may have stored it, though its answer was lost.
    is_new = call_id == intent.id and state == CallState.INTENT
    return Call(
        call_id, part, CallState(state), is_new, attempt, vendor_id, addresses, result, units, error, age, uncertain
    )


def _is_under_way(intent: Intent, latest: Call, policy: BeginPolicy) -> bool:
    """Whether somebody else may be waiting for its answer. Of a task, only one run at a time makes calls."""
    fresh = intent.task_id is None and latest.state is CallState.INTENT and not latest.is_new
    return fresh and latest.age_seconds < policy.answer_seconds


def _too_late(seconds: float) -> ProviderFailed:
    return ProviderFailed(
        f"The task's calls to providers have taken more than {seconds:g} s together.",
        category=ErrorCategory.PROVIDER_TIMEOUT,
        hopeless=True,
    )
