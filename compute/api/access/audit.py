"""The audit log: who did what. Written beside the requests, in batches, within half a second.

A request never waits for it and never fails by it. While the database is away, entries wait in memory, up to ten
thousand; what comes then, and what is left when the process is stopped meanwhile, is written to the process's own log
instead, so that no entry is lost without a trace. Only a process that is killed takes half a second of entries with it.

Of what is refused, a key has so many entries in a minute; how many more there were is in the process's own log.
"""

import asyncio
import logging
import re
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from starlette.datastructures import Headers
from starlette.types import Scope

from compute.api.access.caller import Caller
from compute.api.http.request_ids import request_id_in
from compute.api.http.routes import Match
from compute.api.openapi.operations import operation_id
from compute.db.away import DatabaseAway
from compute.db.session import Database
from compute.db.tables import AuditEntry
from compute.telemetry.ids import bound

__all__ = ["AuditLog", "Entry", "entry_of", "made_in", "note_made", "tell"]

_log = logging.getLogger(__name__)
_EVERY_SECONDS = 0.5
_AWAY_SECONDS = 2.0
_STOP_SECONDS = 3.0
_AT_A_TIME = 1000
_MOST_WAITING = 10_000
_MOST_OBJECTS = 100
_MOST_REFUSALS = 120
_REFUSALS_SECONDS = 60.0
_FIRST_REFUSAL, _FIRST_FAULT = 400, 500
_LONGEST = 256
_MADE = "made"
_QUICKSTART_ID = re.compile(r"(?:task|train|wf)_([0-9a-f]{32})")


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


def made_in(scope: Scope) -> bool:
    """Whether the request made something: whoever makes it says so in the log."""
    return bool(scope.get("state", {}).get(_MADE))


def entry_of(
    scope: Scope, caller: Caller, status: int, entry_id: UUID, now: datetime, match: Match | None = None
) -> Entry:
    """The entry of a request that was answered with `status`; 0 if its client went before it was answered. `match`: the
    route that it asked for, if it did not get there."""
    parameters = scope.get("path_params", {}) if match is None else match.parameters
    objects = [*map(_as_id, map(str, parameters.values())), *scope["state"].get(_MADE, ())]
    client, forwarded = scope.get("client"), Headers(scope=scope).get("x-forwarded-for")
    return Entry(
        id=entry_id,
        created_at=now,
        request_id=request_id_in(scope),
        key_id=caller.key_id,
        key_name=caller.name,
        tenant=caller.tenant,
        address=_storable(client[0]) if client else "",
        forwarded_for=None if forwarded is None else _storable(forwarded),
        operation=_storable(operation_id(scope["method"], scope["path"], match or scope.get("route"))),
        objects=[_storable(one) for one in objects[:_MOST_OBJECTS]],
        status=status,
    )


class _Refusals:
    """Counts the refused requests of each key in a minute. Keys that were never given out are not among them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ends_at = -float("inf")
        self._counts: Counter[tuple[UUID | None, str]] = Counter()

    def has_room(self, entry: Entry) -> bool:
        """Count one; False if there were too many in this minute."""
        now = time.monotonic()
        if now >= self._ends_at:
            self.tell()
            self._ends_at = now + _REFUSALS_SECONDS
        key = entry.key_id, entry.key_name
        self._counts[key] += 1
        return self._counts[key] <= self._most

    def tell(self) -> None:
        """Say how many were left out, and begin anew."""
        for (key_id, name), number in self._counts.items():
            if number > self._most:
                left_out, whose = number - self._most, key_id or "of the settings"
                _log.warning("%d refused requests of the key %s (%s) are not in the audit log", left_out, name, whose)
        self._counts.clear()


class AuditLog:
    """Writes entries. `run` must be running."""

    def __init__(
        self,
        database: Database,
        *,
        most_waiting: int = _MOST_WAITING,
        most_refusals: int = _MOST_REFUSALS,
        stop_seconds: float = _STOP_SECONDS,
    ) -> None:
        """`most_refusals`: entries of refused requests that a key may have in a minute, in this process."""
        self._database = database
        self._waiting: deque[Entry] = deque()
        self._most_waiting = most_waiting
        self._stop_seconds = stop_seconds
        self._refusals = _Refusals(most_refusals)

    def note(self, entry: Entry) -> None:
        """Write an entry soon."""
        if _FIRST_REFUSAL <= entry.status < _FIRST_FAULT and not self._refusals.has_room(entry):
            return
        if len(self._waiting) >= self._most_waiting:
            _write_elsewhere(entry, "too many entries wait to be written")
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
        self._refusals.tell()
        try:
            async with asyncio.timeout(self._stop_seconds):
                await self.flush()
        except (DatabaseAway, TimeoutError):
            for entry in self._waiting:
                _write_elsewhere(entry, "the database is away")
            self._waiting.clear()


def _write_elsewhere(entry: Entry, why: str) -> None:
    _log.error("not in the audit log, because %s: %s", why, entry)


def tell(entry: Entry) -> None:
    """Say it in the process's own log as well, where a search for an id finds what was done to its task."""
    with bound(request_id=entry.request_id):
        _log.info("%s of %s was answered %d", entry.operation, ", ".join(entry.objects), entry.status)


def _as_id(text: str) -> str:
    """An id in the canonical spelling, by which it is found however it was sent."""
    found = _QUICKSTART_ID.fullmatch(text)
    return str(UUID(found[1])) if found else text


def _storable(text: str) -> str:
    """A text of the caller's, bounded and without what the database cannot store."""
    return text[:_LONGEST].replace("\0", "").encode("utf-8", "replace").decode()
