"""The audit log: who did what. Written beside the requests, in batches, within half a second.

A request never waits for it and never fails by it. While the database is away, entries wait in memory, up to ten
thousand; what comes then, and what is left when the process is stopped meanwhile, is written to the process's own log
instead, so that no entry is lost without a trace. Only a process that is killed takes half a second of entries with it.
"""

import asyncio
import logging
from collections import deque
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from starlette.datastructures import Headers
from starlette.types import Scope

from compute.api.access.caller import Caller
from compute.api.http.request_ids import request_id_in
from compute.api.openapi.operations import operation_id
from compute.db.away import DatabaseAway
from compute.db.session import Database
from compute.db.tables import AuditEntry

__all__ = ["AuditLog", "Entry", "entry_of", "note_made"]

_log = logging.getLogger(__name__)
_EVERY_SECONDS = 0.5
_AWAY_SECONDS = 2.0
_STOP_SECONDS = 3.0
_AT_A_TIME = 1000
_MOST_WAITING = 10_000
_MOST_OBJECTS = 100
_LONGEST = 256
_MADE = "made"


@dataclass(frozen=True, slots=True)
class Entry:
    """One request, as the log has it."""

    id: UUID
    created_at: datetime
    request_id: str
    key_id: UUID | None
    key_name: str
    tenant: str | None
    address: str
    forwarded_for: str | None
    operation: str
    objects: list[str]
    status: int


def note_made(scope: Scope, *objects: object) -> None:
    """Note what a request makes, whose ids its address does not have."""
    scope.setdefault("state", {}).setdefault(_MADE, []).extend(str(one) for one in objects)


def entry_of(scope: Scope, caller: Caller, status: int, entry_id: UUID, now: datetime) -> Entry:
    """The entry of a request that was answered with `status`; 0 if its client went before it was answered."""
    objects = [*map(str, scope.get("path_params", {}).values()), *scope["state"].get(_MADE, ())]
    client = scope.get("client")
    return Entry(
        id=entry_id,
        created_at=now,
        request_id=request_id_in(scope),
        key_id=caller.key_id,
        key_name=caller.name,
        tenant=caller.tenant,
        address=client[0] if client else "",
        forwarded_for=_storable(Headers(scope=scope).get("x-forwarded-for")),
        operation=operation_id(scope["method"], scope["path"], scope.get("route")),
        objects=[one[:_LONGEST] for one in objects[:_MOST_OBJECTS]],
        status=status,
    )


class AuditLog:
    """Writes entries. `run` must be running."""

    def __init__(
        self, database: Database, *, most_waiting: int = _MOST_WAITING, stop_seconds: float = _STOP_SECONDS
    ) -> None:
        self._database = database
        self._waiting: deque[Entry] = deque()
        self._most_waiting = most_waiting
        self._stop_seconds = stop_seconds

    def note(self, entry: Entry) -> None:
        """Write an entry soon."""
        if len(self._waiting) >= self._most_waiting:
            _write_elsewhere(entry)
        else:
            self._waiting.append(entry)

    async def run(self) -> None:
        """Write what is noted, until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            try:
                await self.flush()
            except DatabaseAway as error:
                _log.warning("%d entries of the audit log wait for the database: %s", len(self._waiting), error)
                await asyncio.sleep(_AWAY_SECONDS)

    async def flush(self) -> None:
        """Write everything that waits.

        Raises:
            DatabaseAway: the database is away; what is not written waits on.
        """
        while self._waiting:
            batch = [self._waiting[place] for place in range(min(len(self._waiting), _AT_A_TIME))]
            async with self._database.transaction() as session:
                # A batch whose outcome was not known is written again.
                adding = insert(AuditEntry).on_conflict_do_nothing()
                await session.execute(adding, [asdict(entry) for entry in batch])
            for _ in batch:
                self._waiting.popleft()

    async def close(self) -> None:
        """Write what waits, here or in the process's own log."""
        try:
            async with asyncio.timeout(self._stop_seconds):
                await self.flush()
        except (DatabaseAway, TimeoutError):
            for entry in self._waiting:
                _write_elsewhere(entry)
            self._waiting.clear()


def _write_elsewhere(entry: Entry) -> None:
    _log.error("not in the audit log, because the database is away: %s", entry)


def _storable(text: str | None) -> str | None:
    return None if text is None else text[:_LONGEST].replace("\0", "")
