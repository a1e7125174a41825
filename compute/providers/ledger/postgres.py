"""The ledger in Postgres: a group commit of what many calls report."""

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from compute.db.direct import DirectConnection
from compute.db.group_commit import GroupCommit
from compute.db.session import Connection, Database
from compute.errors import LeaseLost, ProviderFailed, TaskFailed
from compute.providers.calls.call import Call, CallState, Intent
from compute.providers.calls.ledger import Pause, ServiceRequest
from compute.providers.ledger.accounts import Accounts
from compute.providers.ledger.begin import BeginPolicy, Begun, account_key, begin_all
from compute.providers.ledger.gate import BreakerPolicy, Limits
from compute.providers.ledger.news import Price, whose_all, write_accepted, write_collected, write_ended
from compute.providers.ledger.writes import Accept, Begin, Collect, End, LedgerWrite

__all__ = ["PostgresLedger"]

_MOST_AT_ONCE = 500
W = TypeVar("W", Begin, Accept, Collect, End)


class PostgresLedger:
    """Implements `compute.providers.calls.ledger.Ledger`. `run` must be running.

    Every method returns after the commit, and waits for a database that is away: a call that has left may be told of
    only there, and one that has not left waits for nothing better.
    """

    def __init__(
        self,
        database: Database,
        *,
        limits: Limits,
        budget_seconds: float,
        price: Price,
        breaker: BreakerPolicy | None = None,
        answer_seconds: float = 0.0,
    ) -> None:
        """Connect to nothing yet. `budget_seconds` is how long the calls of one task may take together,
        `answer_seconds` how long another process may be waiting for the answer to a call without a task."""
        self._connection = DirectConnection(database)
        self._policy = BeginPolicy(limits, breaker or BreakerPolicy(), budget_seconds, answer_seconds)
        self._price = price
        self._writes: GroupCommit[LedgerWrite, Begun | bool] = GroupCommit(
            self._write, lambda write: write.call_id, given_up=False, most=_MOST_AT_ONCE
        )

    async def run(self) -> None:
        """Write until `close` was called and nothing is left."""
        try:
            await self._writes.run()
        finally:
            await self._connection.close()

    def close(self) -> None:
        """Let `run` end once everything is written."""
        self._writes.close()

    async def begin(self, intent: Intent) -> Call | Pause:
        answer = await self._put(Begin(intent))
        if isinstance(answer, LeaseLost | ProviderFailed):
            raise answer
        if isinstance(answer, bool):
            raise TaskFailed("The ledger of paid calls is closed.")
        return answer

    async def accepted(
        self, call_id: UUID, vendor_id: str, addresses: dict[str, str], requests: Sequence[ServiceRequest]
    ) -> bool:
        return bool(await self._put(Accept(call_id, vendor_id, addresses, requests)))

    async def collected(
        self,
        call_id: UUID,
        result: dict[str, Any],
        units: dict[str, float],
        vendor_id: str | None,
        requests: Sequence[ServiceRequest],
    ) -> None:
        await self._put(Collect(call_id, result, units, vendor_id, requests))

    async def failed(
        self,
        call_id: UUID,
        category: str,
        message: str,
        *,
        blames: bool,
        pause: float,
        requests: Sequence[ServiceRequest],
    ) -> None:
        await self._put(End(call_id, CallState.FAILED, message, requests, category, blames, pause))

    async def uncertain(self, call_id: UUID, message: str, requests: Sequence[ServiceRequest]) -> None:
        await self._put(End(call_id, CallState.UNCERTAIN, message, requests, blames=True))

    async def cancelled(self, call_id: UUID, message: str, requests: Sequence[ServiceRequest]) -> None:
        await self._put(End(call_id, CallState.CANCELLED, message, requests))

    async def _put(self, write: LedgerWrite) -> Begun | bool:
        return await self._writes.put(write)

    async def _write(self, batch: Sequence[LedgerWrite]) -> Sequence[Begun | bool]:
        return await self._connection.run(partial(self._write_in_order, batch))

    async def _write_in_order(self, batch: Sequence[LedgerWrite], connection: Connection) -> list[Begun | bool]:
        """News first: it may make room for those that are about to leave."""
        accepts, collects, ends = _of(Accept, batch), _of(Collect, batch), _of(End, batch)
        intents = [write.intent for write in _of(Begin, batch)]
        begun: list[Begun] = []
        async with connection.transaction():
            news: list[Accept | Collect | End] = [*accepts, *collects, *ends]
            whose = await whose_all(connection, [one.call_id for one in news])
            told = {whose[one.call_id][0] for one in news if not isinstance(one, Accept) and one.call_id in whose}
            keys = told | {account_key(intent) for intent in intents}
            # All at once and in one order: another replica writes of the same accounts.
            accounts = await Accounts.lock(connection, keys)
            taken = await write_accepted(connection, accepts, whose) if accepts else frozenset()
            if collects:
                await write_collected(connection, collects, whose, accounts, self._price)
            if ends:
                await write_ended(connection, ends, whose, accounts, self._policy.breaker)
            if intents:
                begun = await begin_all(connection, intents, accounts, self._policy)
            await accounts.save()
        answers = iter(begun)
        return [next(answers) if isinstance(write, Begin) else write.call_id not in taken for write in batch]


def _of(kind: type[W], writes: Sequence[LedgerWrite]) -> list[W]:
    return [write for write in writes if isinstance(write, kind)]
