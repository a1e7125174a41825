"""Stops calls whose tasks have ended: a cancelled task's work at a vendor is stopped there, too. Calls that never had a
task and whose process has died become uncertain.

It looks at the ledger, not at who runs what, so that it also finds the calls of workers that have died.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import text

from compute.db.away import DatabaseAway
from compute.db.session import Database
from compute.errors import ComputeError
from compute.events import notify
from compute.providers.calls.http import HttpClient
from compute.providers.calls.ledger import Ledger, ServiceRequest
from compute.providers.calls.outcomes import FOLLOWED, Accepted, NotDeliveredError, OutcomeUnknownError
from compute.providers.calls.under_way import UnderWay
from compute.providers.vendors.reopened import reopened
from compute.settings import Settings
from compute.tasks.states import TERMINAL

__all__ = ["CallKeeper"]

_log = logging.getLogger(__name__)
_EVERY_SECONDS = 2.0
_AT_A_TIME = 50
_ANSWER_SECONDS = 10.0
_ON_ITS_WAY_SECONDS = 180
"""An answer that is on its way is waited for: it tells what is to be stopped."""
_LONGEST_PAUSE_SECONDS = 60.0
_PATIENCE_SECONDS = 3600.0
"""So long a vendor is asked to stop that does not answer."""
_REFUSED = frozenset({401, 403, 408, 425, 429})
_ENDED = ", ".join(sorted(f"'{status}'" for status in TERMINAL))
_LEFT = text(
    f"""
SELECT calls.id, calls.vendor, calls.endpoint, calls.vendor_id, calls.addresses, coalesce(tasks.status, 'gone'),
       extract(epoch FROM clock_timestamp() - calls.created_at)::float8
  FROM provider_calls calls LEFT JOIN tasks ON tasks.id = calls.task_id
 WHERE calls.state IN ('INTENT', 'ACCEPTED') AND calls.task_id IS NOT NULL
   AND (tasks.id IS NULL OR tasks.status IN ({_ENDED}))
   AND (calls.vendor_id IS NOT NULL OR calls.created_at < clock_timestamp() - {_ON_ITS_WAY_SECONDS} * interval '1 s')
   AND calls.id <> ALL(CAST(:later AS uuid[]))
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
    age_seconds: float


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
        self._later: dict[UUID, tuple[float, float]] = {}
        """Calls whose vendors could not be told: when to try again, and the pause before that."""

    async def run(self) -> None:
        """Look now and then, and when a task is cancelled, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(notify.listen(self._database, [notify.CANCELLED], lambda _, task_id: self.heard(task_id)))
            group.create_task(self._keep())

    def heard(self, task_id: str) -> None:
        """A task was cancelled: cut off what this process asks for it, and look at once."""
        with contextlib.suppress(ValueError):
            self._under_way.stop(UUID(task_id))
        self._wake.set()

    async def look(self) -> int:
        """Stop the calls of ended tasks; how many there were.

        Raises:
            DatabaseAway: the database is away.
        """
        async with self._database.transaction() as session:
            # Calls without a task are answered at once, and no later run looks for one whose process was killed.
            await session.execute(_ORPHANS)
            later = [call_id for call_id, (at, _) in self._later.items() if at > asyncio.get_running_loop().time()]
            left = [_Left(*row) for row in (await session.execute(_LEFT, {"later": later})).all()]
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
        """Stop one. Whatever goes wrong with it, the others are stopped."""
        try:
            await self._try_to_stop(call)
        except Exception:
            _log.exception("call %s could not be stopped", call.id)
            self._put_off(call)

    async def _try_to_stop(self, call: _Left) -> None:
        log: list[ServiceRequest] = []
        if call.vendor_id is None:
            await self._ledger.uncertain(
                call.id, f"Its task is {call.status}, and nobody told whether it was sent.", log
            )
            return
        told, said = await self._tell_vendor(call, call.vendor_id, log)
        if not told and call.age_seconds < _PATIENCE_SECONDS:
            _log.warning("call %s: %s", call.id, said)
            self._put_off(call)
            return
        self._later.pop(call.id, None)
        _log.info("call %s of a task that is %s: %s", call.id, call.status, said)
        await self._ledger.cancelled(call.id, f"Its task is {call.status}. {said}", log)

    def _put_off(self, call: _Left) -> None:
        """Try again later, and less and less often."""
        _, pause = self._later.get(call.id, (0.0, _EVERY_SECONDS / 2))
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        self._later[call.id] = asyncio.get_running_loop().time() + pause, pause

    async def _tell_vendor(self, call: _Left, vendor_id: str, log: list[ServiceRequest]) -> tuple[bool, str]:
        """Ask the vendor to stop: whether it was told, or cannot be, and what became of it, in a sentence."""
        if FOLLOWED in call.addresses:
            return True, "Somebody else has submitted it, and it goes on."
        try:
            protocol = reopened(call.vendor, call.endpoint, self._settings)
            request = None if protocol is None else protocol.cancel(Accepted(vendor_id, call.addresses))
            if request is None:
                return True, "The vendor cannot be asked to stop, and may bill it."
            answer = await self._http.ask(replace(request, seconds=_ANSWER_SECONDS), log)
        except (NotDeliveredError, OutcomeUnknownError) as error:
            return False, f"The vendor could not be told: {error}"
        except ComputeError as error:
            return False, f"The vendor could not be told: {error.detail}"
        told = answer.status < 500 and answer.status not in _REFUSED
        return told, f"The vendor was asked to stop and answered {answer.status}; it may bill it all the same."
