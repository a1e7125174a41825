"""Requests per minute of keys and tenants, over all processes.

A process is promised some requests of the minute at a time by the shared row, a tenth of what is left, and lets these
in without asking again. So of a limit of 600 one request in fifteen asks the database. Never more than the limit are
let in; what a process was promised and does not use is lost to the others for the rest of the minute. A minute begins
by the clock of the database; whoever waits for its end may send the next minute's requests at once.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass

from sqlalchemy import text

from compute.db.away import DatabaseAway
from compute.db.session import Database
from compute.errors import LimitReached, Unavailable

__all__ = ["RateLimit", "RateLimiter", "RateState"]

_log = logging.getLogger(__name__)
_MOST_KNOWN = 10_000
_ASK_SECONDS = 5.0
_AWAY = "Requests cannot be counted, because the database does not answer; try again."
_SHARE = 10
_PROMISE = text(f"""
INSERT INTO request_rates AS known (subject, minute, used, granted)
VALUES (:subject, date_trunc('minute', clock_timestamp()), GREATEST(1, :most / {_SHARE}), GREATEST(1, :most / {_SHARE}))
    ON CONFLICT (subject) DO UPDATE SET
       minute = GREATEST(known.minute, excluded.minute),
       granted = CASE WHEN known.minute < excluded.minute THEN excluded.granted
                      ELSE LEAST(GREATEST(1, (:most - known.used) / {_SHARE}), GREATEST(0, :most - known.used)) END,
       used = CASE WHEN known.minute < excluded.minute THEN excluded.used
                   ELSE known.used
                        + LEAST(GREATEST(1, (:most - known.used) / {_SHARE}), GREATEST(0, :most - known.used)) END
RETURNING granted, used, extract(epoch FROM minute + interval '1 minute' - clock_timestamp())
""")  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many requests a key, or all keys of a tenant, may send in a minute. `whose` says it in words."""

    subject: str
    whose: str
    per_minute: int


@dataclass(frozen=True, slots=True)
class RateState:
    """How a caller stands with the limit that is nearest."""

    limit: int
    remaining: int
    reset_seconds: float


@dataclass(slots=True)
class _Promise:
    """Requests that this process may let in until `until`; `rest` is what nobody was promised when it asked."""

    left: int = 0
    rest: int = 0
    until: float = 0.0
    most: int = 0


class RateLimiter:
    """Counts requests. Use it within one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._promises: dict[str, _Promise] = {}
        self._asking: dict[RateLimit, asyncio.Task[_Promise | Unavailable]] = {}

    async def take(self, limits: Sequence[RateLimit]) -> RateState:
        """Count one request against each of the limits, or against none.

        Raises:
            LimitReached: one of them is used up until the minute ends.
            Unavailable: the database must be asked, and is away or takes too long.
        """
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                return await self._take(limits)
        except TimeoutError:
            raise Unavailable(_AWAY) from None

    async def close(self) -> None:
        """Ask no more."""
        asking = list(self._asking.values())
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _take(self, limits: Sequence[RateLimit]) -> RateState:
        taken: list[_Promise] = []
        states: list[RateState] = []
        for limit in limits:
            try:
                promise = await self._promised(limit)
            except BaseException:
                for one in taken:
                    one.left += 1
                raise
            promise.left -= 1
            taken.append(promise)
            seconds = promise.until - asyncio.get_running_loop().time()
            states.append(RateState(limit.per_minute, promise.left + promise.rest, seconds))
        return min(states, key=lambda state: state.remaining)

    async def _promised(self, limit: RateLimit) -> _Promise:
        """A promise of which something is left."""
        loop = asyncio.get_running_loop()
        while True:
            promise = self._promises.get(limit.subject)
            current = promise is not None and loop.time() < promise.until and promise.most == limit.per_minute
            if promise is not None and current and promise.left > 0:
                return promise
            if promise is not None and current and promise.rest <= 0:
                raise LimitReached(
                    f"{limit.whose} may send {limit.per_minute} requests a minute.".capitalize(),
                    limit=limit.per_minute,
                    retry_after=promise.until - loop.time(),
                )
            await self._asked(limit)

    async def _asked(self, limit: RateLimit) -> None:
        """Ask for a promise. One question is for all who wait: its answer, and that there is none."""
        asking = self._asking.get(limit)
        if asking is None:
            # It outlives the request that happened to be the first, and has no part in its transaction.
            asking = self._asking[limit] = asyncio.create_task(self._ask(limit), name="counting", context=Context())
        if isinstance(answer := await asyncio.shield(asking), Unavailable):
            raise Unavailable(answer.detail)

    async def _ask(self, limit: RateLimit) -> _Promise | Unavailable:
        self._forget()
        now = asyncio.get_running_loop().time()
        given = {"subject": limit.subject, "most": limit.per_minute}
        try:
            async with asyncio.timeout(_ASK_SECONDS), self._database.transaction() as session:
                granted, used, seconds = (await session.execute(_PROMISE, given)).one()
        except (DatabaseAway, TimeoutError) as error:
            _log.warning("requests are not counted, the database is away: %s", error)
            return Unavailable(_AWAY)
        finally:
            # Before any of those who wait goes on: they would ask a question that was answered already, for ever.
            self._asking.pop(limit, None)
        promise = _Promise(int(granted), limit.per_minute - int(used), now + float(seconds), limit.per_minute)
        self._promises[limit.subject] = promise
        return promise

    def _forget(self) -> None:
        if len(self._promises) >= _MOST_KNOWN:
            now = asyncio.get_running_loop().time()
            self._promises = {subject: one for subject, one in self._promises.items() if now < one.until}
