"""The keys that a process knows. They are read from the database when they are used, and believed for seconds.

A key is believed for two seconds after it was read, and then read again beside the requests that use it; after four
seconds requests wait for that. So a key that was revoked, changed or rotated is known to be so in every process within
four seconds. However many unknown keys are sent, one query at a time looks for them, and none leaves a row.
"""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, func, literal, select, update

from compute.api.access.caller import Caller, Scope, scopes_up_to
from compute.api.access.rates import RateLimit
from compute.api.access.tokens import Token, is_hashed_in, read_token
from compute.db.away import DatabaseAway
from compute.db.session import Database
from compute.db.tables import ApiKey, Tenant
from compute.errors import ExpiredKey, Overloaded, RevokedKey, Unavailable
from compute.schemas.admin.keys import Limits
from compute.tasks.submission.quotas import Quota

__all__ = ["KeyRing"]

_log = logging.getLogger(__name__)
_FRESH_SECONDS = 2.0
_BELIEVED_SECONDS = 4.0
_READ_SECONDS = 3.0
_MOST_KNOWN = 10_000
_MOST_AT_A_TIME = 500
_MOST_WAITING = 2_000
_NOTE_SECONDS = 30.0
_STOP_SECONDS = 2.0
_AWAY = "Keys cannot be checked, because the database does not answer; try again."


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key's row as it was read. `read_at`, `expires_at` and `previous_until` are in the time of the ring's clock, so
    what this machine takes for the time is of no matter."""

    read_at: float
    caller: Caller | None = None
    hash: bytes = b""
    previous_hash: bytes | None = None
    previous_until: float | None = None
    expires_at: float | None = None
    revoked: bool = False

    def caller_with(self, token: Token, now: float) -> Caller | None:
        """The caller who sent this key; None if its secret is none of ours.

        Raises:
            ExpiredKey, RevokedKey: the secret is right, and the key is of no use any more.
        """
        old = self.previous_until is not None and now < self.previous_until
        right = [is_hashed_in(token, self.hash), is_hashed_in(token, self.previous_hash) and old]
        if not any(right):
            return None
        if self.revoked:
            raise RevokedKey("This API key was revoked; ask for another one.")
        if self.expires_at is not None and now >= self.expires_at:
            raise ExpiredKey("This API key has expired; ask for another one.")
        return self.caller


class KeyRing:
    """Tells whose key a text is. Use it within one event loop; `run` notes when keys were used.

    Example:
        caller = await ring.caller("ck_0b6f0a5264c84a3c9d0e0c7a8a0f7f10_…")
    """

    def __init__(
        self,
        database: Database,
        *,
        fresh_seconds: float = _FRESH_SECONDS,
        believed_seconds: float = _BELIEVED_SECONDS,
        note_seconds: float = _NOTE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read nothing yet."""
        self._database = database
        self._fresh = fresh_seconds
        self._believed = believed_seconds
        self._note_seconds = note_seconds
        self._clock = clock
        self._known: OrderedDict[UUID, KnownKey] = OrderedDict()
        self._unknown: OrderedDict[UUID, KnownKey] = OrderedDict()
        self._wanted: dict[UUID, asyncio.Future[KnownKey | Unavailable]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._used: set[UUID] = set()

    async def caller(self, text: str) -> Caller | None:
        """Whose key this is; None for one that was never given out.

        Raises:
            ExpiredKey, RevokedKey: it was given out, and is of no use any more.
            Unavailable: it is not known well enough, and the database is away.
            Overloaded: too many unknown keys are looked for.
        """
        token = read_token(text)
        if token is None:
            return None
        known = await self._find(token.id)
        caller = known.caller_with(token, self._clock())
        if caller is not None:
            self._used.add(token.id)
        return caller

    async def is_valid(self, key_id: UUID) -> bool:
        """Whether a key that was right is of use still. While nobody can know it is."""
        try:
            known = await self._find(key_id)
        except Unavailable:
            return True
        now = self._clock()
        return known.caller is not None and not known.revoked and (known.expires_at is None or now < known.expires_at)

    async def run(self) -> None:
        """Write now and then when keys were last used, until cancelled."""
        while True:
            await asyncio.sleep(self._note_seconds)
            await self.note()

    async def note(self) -> None:
        """Write which keys were used since the last time. A row that somebody else has locked is left for the next."""
        used, self._used = self._used, set()
        if not used:
            return
        free = select(ApiKey.id).where(ApiKey.id == any_(literal(list(used), ARRAY(Uuid))))
        free = free.order_by(ApiKey.id).with_for_update(skip_locked=True)
        try:
            async with self._database.transaction() as session:
                await session.execute(
                    update(ApiKey).where(ApiKey.id.in_(free)).values(last_used_at=func.now()),
                    execution_options={"synchronize_session": False},
                )
        except DatabaseAway as error:
            self._used |= used
            _log.warning("when keys were used is written later, the database is away: %s", error)

    async def close(self) -> None:
        """Stop reading, and write what is not written yet."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await self.note()

    async def _find(self, key_id: UUID) -> KnownKey:
        now = self._clock()
        for kept in (self._known, self._unknown):
            known = kept.get(key_id)
            if known is not None and now < known.read_at + self._believed:
                kept.move_to_end(key_id)
                if now >= known.read_at + self._fresh:
                    self._want(key_id)
                return known
        # A future would be cancelled with the first of those who wait for it.
        found = await asyncio.shield(self._want(key_id))
        if isinstance(found, Unavailable):
            raise found
        return found

    def _want(self, key_id: UUID) -> "asyncio.Future[KnownKey | Unavailable]":
        wanted = self._wanted.get(key_id)
        if wanted is None:
            if len(self._wanted) >= _MOST_WAITING:
                raise Overloaded("Too many keys are being looked for at the moment; try again later.")
            wanted = self._wanted[key_id] = asyncio.get_running_loop().create_future()
        if self._reading is None or self._reading.done():
            # It outlives this request, and has no part in its transaction.
            self._reading = asyncio.create_task(self._read_all(), name="reading keys", context=Context())
        return wanted

    async def _read_all(self) -> None:
        """Read what is wanted, some at a time, until nothing is."""
        while self._wanted:
            batch = list(self._wanted)[:_MOST_AT_A_TIME]
            now = self._clock()
            found: dict[UUID, KnownKey] | Unavailable
            try:
                async with asyncio.timeout(_READ_SECONDS):
                    found = await self._read(batch, now)
            except (DatabaseAway, TimeoutError) as error:
                _log.warning("keys were not read, the database is away: %s", error)
                found = Unavailable(_AWAY)
            for key_id in batch:
                answer = found if isinstance(found, Unavailable) else found.get(key_id) or KnownKey(now)
                if isinstance(answer, KnownKey):
                    self._keep(key_id, answer)
                future = self._wanted.pop(key_id)
                if not future.done():
                    future.set_result(answer)

    def _keep(self, key_id: UUID, known: KnownKey) -> None:
        here, other = (self._known, self._unknown) if known.caller else (self._unknown, self._known)
        other.pop(key_id, None)
        here[key_id] = known
        while len(here) > _MOST_KNOWN:
            here.popitem(last=False)

    async def _read(self, ids: Sequence[UUID], now: float) -> dict[UUID, KnownKey]:
        async with self._database.transaction() as session:
            rows = (await session.execute(_KEYS, {"ids": list(ids)})).all()
        return {row.id: _known(row, now) for row in rows}


def _left(column: Any) -> Any:
    """Seconds until a time, by the clock of the database."""
    return func.extract("epoch", column - func.clock_timestamp())


_KEYS = (
    select(
        ApiKey.id,
        ApiKey.name,
        ApiKey.hash,
        ApiKey.previous_hash,
        ApiKey.scope,
        ApiKey.tenant,
        ApiKey.revoked_at,
        _left(ApiKey.expires_at).label("expires_in"),
        _left(ApiKey.previous_until).label("previous_for"),
        *(getattr(ApiKey, name) for name in Limits.model_fields),
        *(getattr(Tenant, name).label(f"tenant_{name}") for name in Limits.model_fields),
    )
    .outerjoin(Tenant, Tenant.name == ApiKey.tenant)
    .where(ApiKey.id == any_(bindparam("ids", type_=ARRAY(Uuid))))
)


def _known(row: Any, now: float) -> KnownKey:
    return KnownKey(
        read_at=now,
        caller=_caller(row),
        hash=row.hash,
        previous_hash=row.previous_hash,
        previous_until=None if row.previous_for is None else now + float(row.previous_for),
        expires_at=None if row.expires_in is None else now + float(row.expires_in),
        revoked=row.revoked_at is not None,
    )


def _caller(row: Any) -> Caller:
    limited = [(f"key:{row.id}", "this key", {name: getattr(row, name) for name in Limits.model_fields})]
    if row.tenant is not None:
        shared = {name: getattr(row, f"tenant_{name}") for name in Limits.model_fields}
        limited.append((f"tenant:{row.tenant}", "this key's tenant", shared))
    rates = [RateLimit(subject, whose, most) for subject, whose, one in limited if (most := one["requests_per_minute"])]
    quotas = [
        Quota(subject, whose, one["concurrent_tasks"], one["tasks_per_day"])
        for subject, whose, one in limited
        if one["concurrent_tasks"] or one["tasks_per_day"]
    ]
    return Caller(row.name, scopes_up_to(Scope(row.scope)), row.tenant, row.id, tuple(rates), tuple(quotas))
