"""Stops calls whose tasks have ended: a cancelled task's work at a vendor is stopped there, too. Calls that never had a
task and whose process has died become uncertain.

It looks at the ledger, not at who runs what, so that it also finds the calls of workers that have died.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text

from compute.db.away import DatabaseAway
from compute.db.session import Database
from compute.errors import ComputeError
from compute.events import notify
from compute.providers.calls.http import HttpClient
from compute.providers.calls.ledger import Ledger, ServiceRequest
from compute.providers.calls.outcomes import Accepted, NotDeliveredError, OutcomeUnknownError
from compute.providers.calls.under_way import UnderWay
from compute.providers.vendors.reopened import reopened
from compute.settings import Settings
from compute.tasks.states import TERMINAL

__all__ = ["CallKeeper"]

_log = logging.getLogger(__name__)
_EVERY_SECONDS = 2.0
_AT_A_TIME = 50
_ENDED = ", ".join(sorted(f"'{status}'" for status in TERMINAL))
_LEFT = text(
    f"""
SELECT calls.id, calls.vendor, calls.endpoint, calls.vendor_id, calls.addresses, tasks.status
  FROM provider_calls calls JOIN tasks ON tasks.id = calls.task_id
 WHERE calls.state IN ('INTENT', 'ACCEPTED') AND tasks.status IN ({_ENDED})
 ORDER BY calls.created_at LIMIT {_AT_A_TIME}
"""  # noqa: S608 - constants
)
_ORPHANS = text(
    """
UPDATE provider_calls SET state = 'UNCERTAIN', uncertain_at = clock_timestamp(),
       error = 'It was sent, and its answer was lost with the process that waited for it.'
 WHERE id IN (SELECT id FROM provider_calls
               WHERE state IN ('INTENT', 'ACCEPTED') AND task_id IS NULL
                 AND created_at < clock_timestamp() - interval '1 hour'
               ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED)
"""
)


@dataclass(frozen=True, slots=True)
class _Left:
    """A call that is under way though its task has ended."""

    id: UUID
    vendor: str
    endpoint: str
    vendor_id: str | None
    addresses: dict[str, Any]
    status: str


class CallKeeper:
    """Several may run: to ask a vendor twice does no harm."""

    def __init__(
        self, database: Database, ledger: Ledger, http: HttpClient, settings: Settings, under_way: UnderWay
    ) -> None:
        self._under_way = under_way
        self._database = database
        self._ledger = ledger
        self._http = http
        self._settings = settings
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Look now and then, and when a task is cancelled, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(notify.listen(self._database, [notify.CANCELLED], self._heard))
            group.create_task(self._keep())

    def _heard(self, channel: str, payload: str) -> None:
        with contextlib.suppress(ValueError):
            self._under_way.stop(UUID(payload))
        self._wake.set()

    async def look(self) -> int:
        """Stop the calls of ended tasks; how many there were.

        Raises:
            DatabaseAway: the database is away.
        """
        async with self._database.transaction() as session:
            # Calls without a task are answered at once, and no later run looks for one whose process was killed.
            await session.execute(_ORPHANS)
            left = [_Left(*row) for row in (await session.execute(_LEFT)).all()]
        await asyncio.gather(*map(self._stop, left))
        return len(left)

    async def _keep(self) -> None:
        while True:
            try:
                busy = await self.look() == _AT_A_TIME
            except DatabaseAway as error:
                _log.warning("calls of ended tasks are stopped later, the database is out of reach: %s", error)
                busy = False
            if not busy:
                await self._rest()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(_EVERY_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _stop(self, call: _Left) -> None:
        log: list[ServiceRequest] = []
        said = f"Its task is {call.status}. {await self._tell_vendor(call, log)}"
        _log.info("call %s: %s", call.id, said)
        await self._ledger.cancelled(call.id, said, log)

    async def _tell_vendor(self, call: _Left, log: list[ServiceRequest]) -> str:
        """Ask the vendor to stop; what became of that, in a sentence."""
        if call.vendor_id is None:
            return "It was under way and may be billed."
        try:
            protocol = reopened(call.vendor, call.endpoint, self._settings)
            known = Accepted(call.vendor_id, call.addresses)
            request = None if protocol is None else protocol.cancel(known)
            if request is None:
                return "The vendor cannot be asked to stop, and may bill it."
            answer = await self._http.ask(request, log)
        except (NotDeliveredError, OutcomeUnknownError) as error:
            return f"The vendor could not be told: {error}"
        except ComputeError as error:
            return f"The vendor could not be told: {error.detail}"
        return f"The vendor was asked to stop and answered {answer.status}; it may bill it all the same."
