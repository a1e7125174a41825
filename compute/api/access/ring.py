"""The keys that a process knows. They are read from the database when they are used, and believed for seconds.

A key is believed for two seconds after it was read, and then read again beside the requests that use it; after four
seconds requests wait for that. So a key that was revoked, changed or rotated is known to be so in every process within
four seconds. However many unknown keys are sent, one query at a time looks for them, and none leaves a row. Keys that
are known are read before all others.

Whatever goes wrong, everybody who waits gets an answer within seconds: a key that cannot be read is unavailable.
"""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass, replace
from itertools import chain, islice
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
_REMEMBERED_SECONDS = 3600.0
_READ_SECONDS = 3.0
_WAIT_SECONDS = 2 * _READ_SECONDS
"""A read that is under way, and the next one."""
_MOST_KNOWN = 10_000
_MOST_AT_A_TIME = 500
_MOST_WAITING = 2_000
_NOTE_SECONDS = 30.0
_STOP_SECONDS = 2.0
_AWAY = "Keys cannot be checked, because the database does not answer; try again."
_UNREAD = "Keys cannot be checked at the moment; try again."
_UNREADABLE = "This process cannot read this key, which a newer version may have written; try again."


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key's row as it was read. `read_at`, `expires_at` and `previous_until` are in the time of the ring's clock, so
    what this machine takes for the time is of no matter.

    A key that was never given out has no `hash`; one whose row this version cannot read has no `caller`.
    """

    read_at: float
    caller: Caller | None = None
    hash: bytes = b""
    previous_hash: bytes | None = None
    previous_until: float | None = None
    expires_at: float | None = None
    revoked: bool = False

    @property
    def is_known(self) -> bool:
        """Whether it was given out."""
        return self.hash != b""

    def caller_with(self, token: Token, now: float) -> Caller | None:
        """The caller who sent this key; None if its secret is none of ours.

        Raises:
            ExpiredKey, RevokedKey: the secret is right, and the key is of no use any more.
            Unavailable: the secret is right, and what the key may do cannot be read.
        """
        old = self.previous_until is not None and now < self.previous_until
        right = [is_hashed_in(token, self.hash), is_hashed_in(token, self.previous_hash) and old]
        if not any(right):
            return None
        if self.revoked:
            raise RevokedKey("This API key was revoked; ask for another one.")
        if self.expires_at is not None and now >= self.expires_at:
            raise ExpiredKey("This API key has expired; ask for another one.")
        if self.caller is None:
            raise Unavailable(_UNREADABLE)
        return self.caller


_Line = dict[UUID, asyncio.Future[KnownKey | Unavailable]]
"""Who waits for which key, in the order of asking."""


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
        remembered_seconds: float = _REMEMBERED_SECONDS,
        note_seconds: float = _NOTE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read nothing yet."""
        self._database = database
        self._fresh = fresh_seconds
        self._believed = believed_seconds
        self._remembered = remembered_seconds
        self._note_seconds = note_seconds
        self._clock = clock
        self._known: OrderedDict[UUID, KnownKey] = OrderedDict()
        self._unknown: OrderedDict[UUID, KnownKey] = OrderedDict()
        self._again: _Line = {}
        self._wanted: _Line = {}
        self._reading: asyncio.Task[None] | None = None
        self._used: set[UUID] = set()

    async def caller(self, text: str, *, remembered: bool = False) -> Caller | None:
        """Whose key this is; None for one that was never given out. With `remembered`, what was read of it within the
        last hour is enough while the database is away; its requests are not counted then, which nobody could.

        Raises:
            ExpiredKey, RevokedKey: it was given out, and is of no use any more.
            Unavailable: it is not known well enough, and the database is away.
            Overloaded: too many unknown keys are looked for.
        """
        token = read_token(text)
        if token is None:
            return None
        try:
            known, is_old = await self._find(token.id), False
        except Unavailable:
            if not remembered or (last := self._last_known(token.id)) is None:
                raise
            known, is_old = last, True
        caller = known.caller_with(token, self._clock())
        if caller is not None:
            self._used.add(token.id)
        return replace(caller, rates=()) if caller is not None and is_old else caller

    async def is_valid(self, text: str) -> bool:
        """Whether a key that was right is of use still, with this very secret. While nobody can know it is."""
        token = read_token(text)
        if token is None:
            return False
        try:
            return (await self._find(token.id)).caller_with(token, self._clock()) is not None
        except Unavailable:
            return True
        except (ExpiredKey, RevokedKey):
            return False

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
        except BaseException as error:
            # Cancelled as well: `close` writes once more.
            self._used |= used
            if not isinstance(error, DatabaseAway):
                raise
            _log.warning("when keys were used is written later, the database is away: %s", error)

    async def close(self) -> None:
        """Stop reading, and write what is not written yet."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._answer([*self._again, *self._wanted], Unavailable(_UNREAD), self._clock())
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
                    self._refresh(key_id)
                return known
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                # A future would be cancelled with the first of those who wait for it.
                found = await asyncio.shield(self._want(key_id))
        except TimeoutError:
            raise Unavailable(_AWAY) from None
        if isinstance(found, Unavailable):
            # One of its own for each, as they are raised in many places.
            raise Unavailable(found.detail)
        return found

    def _last_known(self, key_id: UUID) -> KnownKey | None:
        """What was read of it within the last hour."""
        known = self._known.get(key_id)
        now = self._clock()
        return known if known is not None and now < known.read_at + self._remembered else None

    def _refresh(self, key_id: UUID) -> None:
        """Read it again beside the requests; that there is no room for it concerns nobody."""
        with contextlib.suppress(Overloaded):
            self._want(key_id)

    def _want(self, key_id: UUID) -> "asyncio.Future[KnownKey | Unavailable]":
        line = self._again if key_id in self._known else self._wanted
        wanted = line.get(key_id)
        if wanted is None:
            # As many as are known may be read again.
            if line is self._wanted and len(line) >= _MOST_WAITING:
                raise Overloaded("Too many keys are being looked for at the moment; try again later.")
            wanted = line[key_id] = asyncio.get_running_loop().create_future()
        if self._reading is None or self._reading.done():
            # It outlives this request, and has no part in its transaction.
            self._reading = asyncio.create_task(self._read_all(), name="reading keys", context=Context())
        return wanted

    async def _read_all(self) -> None:
        """Read what is wanted, some at a time, until nothing is. However a read ends, whoever waits is answered."""
        while batch := list(islice(chain(self._again, self._wanted), _MOST_AT_A_TIME)):
            now = self._clock()
            found: dict[UUID, KnownKey] | Unavailable = Unavailable(_UNREAD)
            try:
                async with asyncio.timeout(_READ_SECONDS):
                    found = await self._read(batch, now)
            except (DatabaseAway, TimeoutError) as error:
                _log.warning("keys were not read, the database is away: %s", error)
                found = Unavailable(_AWAY)
            except Exception as error:
                _log.error("keys could not be read", exc_info=error)
            finally:
                self._answer(batch, found, now)

    def _answer(self, batch: Iterable[UUID], found: dict[UUID, KnownKey] | Unavailable, now: float) -> None:
        for key_id in batch:
            answer = found if isinstance(found, Unavailable) else found.get(key_id) or KnownKey(now)
            if isinstance(answer, KnownKey):
                self._keep(key_id, answer)
            for line in (self._again, self._wanted):
                future = line.pop(key_id, None)
                if future is not None and not future.done():
                    future.set_result(answer)

    def _keep(self, key_id: UUID, known: KnownKey) -> None:
        here, other = (self._known, self._unknown) if known.is_known else (self._unknown, self._known)
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
    try:
        caller = _caller(row)
    except ValueError as error:
        # A scope that this version has not, say. The other keys of the batch are answered all the same.
        _log.error("key %s cannot be read: %s", row.id, error)
        caller = None
    return KnownKey(
        read_at=now,
        caller=caller,
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
