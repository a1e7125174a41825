"""News of calls that have left: accepted, collected, ended. It is true whoever has the task by now."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from psycopg.types.json import Jsonb

from compute.db.session import Connection
from compute.providers.calls.call import CallState
from compute.providers.calls.outcomes import FOLLOWED
from compute.providers.ledger.accounts import AccountKey, Accounts
from compute.providers.ledger.gate import AccountState, BreakerPolicy, failed, paused, succeeded
from compute.providers.ledger.writes import Accept, Collect, End
from compute.schemas.enums import ErrorCategory
from compute.tasks.usage import COUNT_CALLS

__all__ = ["Price", "Whose", "whose_all", "write_accepted", "write_collected", "write_ended"]

WriteT = TypeVar("WriteT", Accept, Collect, End)

Price = Callable[[str, str, str | None, Mapping[str, float]], Decimal | None]
"""What units cost, given the vendor, the endpoint and the model; None where no price is known."""

Whose = Mapping[UUID, tuple[AccountKey, str]]
"""Account and endpoint of calls."""

_REQUESTS = "requests = provider_calls.requests || given.requests"
# What was found out later stands: a call that is collected is never anything else again, and what a webhook or an
# operator has said of a call is not taken back by the one who only missed its answer.
_ACCEPT = f"""
UPDATE provider_calls SET state = 'ACCEPTED', vendor_id = given.vendor_id, addresses = given.addresses,
       accepted_at = coalesce(accepted_at, clock_timestamp()), error = NULL, {_REQUESTS}
  FROM jsonb_to_recordset(%(rows)s) AS given(id uuid, vendor_id text, addresses jsonb, requests jsonb)
 WHERE provider_calls.id = given.id
   AND (state IN ('INTENT', 'UNCERTAIN') OR (state = 'ACCEPTED' AND provider_calls.vendor_id = given.vendor_id))
"""  # noqa: S608 - constants
_TAKEN = f"""
SELECT given.id FROM ROWS FROM (unnest(%(ids)s::uuid[]), unnest(%(vendor_ids)s::text[])) AS given(id, vendor_id)
  JOIN provider_calls mine ON mine.id = given.id
 WHERE EXISTS (SELECT FROM provider_calls other
                WHERE other.vendor = mine.vendor AND other.vendor_id = given.vendor_id AND other.id <> mine.id
                  AND NOT other.addresses ? '{FOLLOWED}')
"""  # noqa: S608 - constants
_WHOSE = """
SELECT provider_calls.id, vendor, account, endpoint FROM provider_calls
 WHERE id = ANY(%(ids)s)
"""
_COLLECT = f"""
WITH collected AS (
UPDATE provider_calls SET state = 'COLLECTED', result = given.result, units = given.units, amount = given.amount,
       vendor_id = coalesce(given.vendor_id, provider_calls.vendor_id), ended_at = clock_timestamp(), error = NULL,
       {_REQUESTS}
  FROM jsonb_to_recordset(%(rows)s) AS given(
       id uuid, result jsonb, units jsonb, amount numeric, vendor_id text, requests jsonb)
 WHERE provider_calls.id = given.id AND state <> 'COLLECTED'
RETURNING provider_calls.tenant, task_type, provider, ended_at, provider_calls.units, provider_calls.amount
)
{COUNT_CALLS}
"""  # noqa: S608 - constants
_KEPT = "given.state = 'UNCERTAIN' AND provider_calls.state = 'ACCEPTED'"
_END = f"""
UPDATE provider_calls SET state = CASE WHEN {_KEPT} THEN provider_calls.state ELSE given.state END,
       error = CASE WHEN NOT ({_KEPT}) THEN given.message END, error_category = given.category,
       ended_at = CASE WHEN given.state <> 'UNCERTAIN' THEN clock_timestamp() END,
       uncertain_at = CASE WHEN given.state = 'UNCERTAIN' THEN clock_timestamp() ELSE uncertain_at END, {_REQUESTS}
  FROM jsonb_to_recordset(%(rows)s) AS given(id uuid, state text, message text, category text, requests jsonb)
 WHERE provider_calls.id = given.id AND provider_calls.state IN ('INTENT', 'ACCEPTED', 'UNCERTAIN')
"""  # noqa: S608 - constants


async def write_accepted(connection: Connection, writes: Sequence[Accept], whose: Whose) -> frozenset[UUID]:
    """INTENT, or UNCERTAIN, → ACCEPTED; but for those, which are returned, whose vendor's id is another call's."""
    ours = [one for one in _known(writes, whose) if FOLLOWED not in one.addresses]
    # Of several in one batch, the first.
    first = {_said(one, whose): one.call_id for one in reversed(ours)}
    given = {"ids": [one.call_id for one in ours], "vendor_ids": [one.vendor_id for one in ours]}
    taken = frozenset(row[0] for row in await (await connection.execute(_TAKEN, given)).fetchall())
    taken |= {one.call_id for one in ours if first[_said(one, whose)] != one.call_id}
    rows = [
        {"id": str(one.call_id), "vendor_id": one.vendor_id, "addresses": one.addresses, "requests": _lines(one)}
        for one in writes
        if one.call_id not in taken
    ]
    await connection.execute(_ACCEPT, {"rows": Jsonb(rows)})
    return taken


async def write_collected(
    connection: Connection, writes: Sequence[Collect], whose: Whose, accounts: Accounts, price: Price
) -> None:
    """→ COLLECTED. Their accounts are well."""
    rows = []
    for one in _known(writes, whose):
        key, endpoint = whose[one.call_id]
        vendor, _ = key
        accounts.states[key] = succeeded(accounts.states[key])
        model = one.result.get("data", {}).get("model")
        amount = price(vendor, endpoint, model if isinstance(model, str) else None, one.units)
        rows.append(
            {
                "id": str(one.call_id),
                "result": one.result,
                "units": one.units,
                "amount": None if amount is None else str(amount),
                "vendor_id": one.vendor_id,
                "requests": _lines(one),
            }
        )
    await connection.execute(_COLLECT, {"rows": Jsonb(rows)})


async def write_ended(
    connection: Connection, writes: Sequence[End], whose: Whose, accounts: Accounts, breaker: BreakerPolicy
) -> None:
    """→ FAILED, CANCELLED or UNCERTAIN, and what that says about their accounts."""
    rows = [
        {
            "id": str(one.call_id),
            "state": one.state,
            "message": one.message.replace("\x00", ""),
            "category": one.category,
            "requests": _lines(one),
        }
        for one in writes
    ]
    await connection.execute(_END, {"rows": Jsonb(rows)})
    for one in _known(writes, whose):
        key = whose[one.call_id][0]
        accounts.states[key] = _after(accounts.states[key], one, breaker)


def _said(accept: Accept, whose: Whose) -> tuple[str, str]:
    """The vendor, and its id."""
    (vendor, _), _ = whose[accept.call_id]
    return vendor, accept.vendor_id


def _known(writes: Sequence[WriteT], whose: Whose) -> list[WriteT]:
    """Those whose calls are still there: a task may be removed with its calls while one of them is told of."""
    return [one for one in writes if one.call_id in whose]


def _after(state: AccountState, end: End, breaker: BreakerPolicy) -> AccountState:
    if end.pause:
        return paused(state, end.pause)
    if end.blames:
        return failed(state, breaker)
    # A refusal for its content shows a vendor that works; what was cancelled, or never left, shows nothing.
    works = end.state == CallState.FAILED and end.category != ErrorCategory.CANCELLED
    return succeeded(state) if works else state


async def whose_all(connection: Connection, ids: Sequence[UUID]) -> Whose:
    """Whose these calls are."""
    rows = await (await connection.execute(_WHOSE, {"ids": list(ids)})).fetchall()
    return {call_id: ((vendor, account), endpoint) for call_id, vendor, account, endpoint in rows}


def _lines(write: Accept | Collect | End) -> list[dict[str, Any]]:
    return [asdict(line) for line in write.requests]
