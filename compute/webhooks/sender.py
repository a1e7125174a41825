"""Sends the outbox: every webhook is signed, retried and logged until its receiver has accepted it.

For receivers
-------------
A webhook is a POST with a JSON body, sent when a task that named a `webhook_url` has ended. It follows the
Standard Webhooks specification, so any of its libraries verifies it:

    webhook-id          names the message, and stays the same when it is sent again
    webhook-timestamp   when this attempt was made, in Unix seconds
    webhook-signature   `v1,` and the base64 of an HMAC-SHA256 over `{id}.{timestamp}.{body}`

Verify the raw bytes of the body before you parse them, with the operator's secret (`whsec_…`):

    from standardwebhooks import Webhook

    event = Webhook(secret).verify(await request.body(), dict(request.headers))

or by hand: decode the base64 after `whsec_` to get the key, compute the HMAC, compare in constant time with each
`v1,` signature in the header (there are two, separated by a space, while the operator rotates the secret), and refuse
timestamps more than five minutes away from your clock.

Answer any 2xx within the sender's timeout (15 s as shipped), and do slow work afterwards. A message can arrive
more than once, so remember the `webhook-id`s that you have handled; messages are not ordered, so go by the
`timestamp` in the body. Answer 410 to refuse a message for good. Any other answer, a redirect included, is tried
again over about 24 hours (see `Backoff`); 429 and 503 may ask for a longer pause with Retry-After.

A receiver that fails several times in a row (no connection, no answer in time, 5xx, 429) gets nothing for a while and
then one message as a probe (see `Breaker`). Its other messages wait meanwhile and lose no attempt. If one path
fails while another of the same host works, only that path is paused.
"""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from compute.db.away import DatabaseAway
from compute.db.group_commit import GroupCommit
from compute.webhooks.queue import DueReceivers
from compute.webhooks.receivers import Breaker, Exchange, Receivers
from compute.webhooks.retry import CHANCE, AttemptOutcome, Backoff, DeliveryStatus, Limits, Verdict, decide
from compute.webhooks.store import ClaimedDelivery, DeliveryAttempt, DeliveryStore, Lottery, Settled
from compute.webhooks.telemetry import about, attempt

__all__ = ["Backoff", "Breaker", "DeliveryStatus", "Limits", "SendPolicy", "WebhookSender"]

_log = logging.getLogger(__name__)
_GATHER_SECONDS = 0.005
_HOPS = 500
_HOPS_REST = 10
_LOTTERIES_AT_ONCE = 16
_EXPIRE_AT_ONCE = 500
_MOST_WRITTEN = 500
_STOP_SECONDS = 5.0

Post = Callable[[ClaimedDelivery], Awaitable[AttemptOutcome]]
"""One attempt at one delivery. It raises nothing and ends within the sender's `timeout_seconds`."""


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """Timing and limits of a sender.

    `poll`, `expire` (between searches for expired deliveries) and `lease_margin` are in seconds; `in_flight` and
    `per_receiver` are numbers of concurrent requests of this sender. A claim is leased for the request's timeout and
    `lease_margin` more, in which a database that is away may return.
    """

    poll: float = 1.0
    expire: float = 60.0
    lease_margin: float = 30.0
    in_flight: int = 256
    per_receiver: int = 32
    backoff: Backoff = field(default_factory=Backoff)
    breaker: Breaker = field(default_factory=Breaker)
    limits: Limits = field(default_factory=Limits)


class WebhookSender:
    """Sends due deliveries until cancelled. Several may run: the store gives each delivery to one of them.

    Delivery is at least once. The leases of a sender that dies run out, and another sender sends again. The sender uses
    the database only through its store, and the network only through `post`.
    """

    def __init__(
        self,
        store: DeliveryStore,
        post: Post,
        *,
        timeout_seconds: float = 15.0,
        owner: str = "webhooks",
        policy: SendPolicy | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """`timeout_seconds` bounds one `post`; `owner` names this sender in the log; `chance` is the source of
        randomness.

        The caller closes the store and the client behind `post`.
        """
        self._store = store
        self._post = post
        self._owner = owner
        self._policy = policy or SendPolicy()
        self._chance = chance or CHANCE
        self._lease_seconds = timeout_seconds + self._policy.lease_margin
        self._receivers = Receivers(self._policy.per_receiver, self._policy.breaker, self._chance)
        self._due = DueReceivers(self._receivers, self._policy.in_flight)
        self._attempts = GroupCommit[DeliveryAttempt, Settled](
            self._settle,
            lambda attempt: attempt.claimed.id,
            given_up=Settled.UNWRITTEN,
            most=_MOST_WRITTEN,
            patience_seconds=self._lease_seconds,
        )
        self._work: set[asyncio.Task[None]] = set()
        self._sending: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._page_after: str | None = None
        self._look_at = 0.0

    async def run(self) -> None:
        """Send until cancelled; then cancel the requests in flight, and write the outcomes that are known."""
        writing = asyncio.create_task(self._attempts.run(), name="writing attempts")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send_on(), name="claiming webhooks")
                group.create_task(self._expire_on(), name="expiring webhooks")
                group.create_task(_as_long_as(writing), name="watching the writer")
        finally:
            await asyncio.shield(self._stop(writing))

    async def _send_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                if begun >= self._look_at:
                    await self._look()
                await self._claim()
            except DatabaseAway as error:
                _log.warning("%s: sending paused, the database is out of reach: %s", self._owner, error)
                await asyncio.sleep(self._policy.poll)
                continue
            # Requests that end meanwhile make room for the next claim, and the database gets half of the
            # time for others.
            await asyncio.sleep(max(loop.time() - begun, _GATHER_SECONDS))
            await self._wait()

    async def _look(self) -> None:
        """Find receivers with due deliveries: one page, so that the cost does not depend on their number."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        page = await self._store.due(self._page_after, _HOPS)
        now = loop.time()
        self._due.add(page.receivers, now)
        self._page_after = page.after
        self._look_at = now + (self._policy.poll if page.after is None else _HOPS_REST * (now - begun))

    async def _claim(self) -> None:
        """Lease deliveries that may be sent now and begin to send them."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        quotas = self._due.allocate(self._policy.in_flight - len(self._work), now)
        if not quotas:
            return
        lotteries = self._due.lotteries(quotas, now)
        others = {name: quota for name, quota in quotas.items() if name not in lotteries}
        if others:
            self._send(await self._store.claim(others, self._lease_seconds), others)
        names = list(lotteries)
        for first in range(0, len(names), _LOTTERIES_AT_ONCE):
            await self._claim_by_lottery({name: lotteries[name] for name in names[first : first + _LOTTERIES_AT_ONCE]})

    async def _claim_by_lottery(self, lotteries: Mapping[str, Lottery]) -> None:
        result = await self._store.claim_by_lottery(lotteries, self._lease_seconds)
        found = Counter(delivery.receiver for delivery in result.claimed)
        for name, lottery in lotteries.items():
            if found[name] < lottery.quota:
                self._receivers.reached(name, result.reached.get(name))
        # A lottery searches a part of the due deliveries: if it found one, there may be more.
        self._send(result.claimed, dict.fromkeys(lotteries, 1))

    def _send(self, claimed: Sequence[ClaimedDelivery], quotas: Mapping[str, int]) -> None:
        """Begin to send claimed deliveries. A receiver whose quota is not filled has nothing more due."""
        filled = Counter(delivery.receiver for delivery in claimed)
        for delivery in claimed:
            self._launch(delivery)
        for receiver, quota in quotas.items():
            if filled[receiver] < quota:
                self._due.remove(receiver)

    async def _wait(self) -> None:
        """Wait until a request ends and makes room for another, or until the next search is due."""
        # Not wait_for: that of Python 3.11 loses a cancellation that coincides with the result.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._look_at):
                await self._wake.wait()
        self._wake.clear()

    def _launch(self, claimed: ClaimedDelivery) -> None:
        exchange = self._receivers.started(claimed.receiver, asyncio.get_running_loop().time(), claimed.path)
        with about(claimed):
            work = asyncio.create_task(self._deliver(claimed, exchange), name=f"webhook-{claimed.id}")
        self._work.add(work)
        self._sending.add(work)

        def forget(done: asyncio.Task[None]) -> None:
            self._work.discard(done)
            self._wake.set()
            if not done.cancelled() and (error := done.exception()):
                _log.error("%s: webhook %s was dropped until its lease ends", self._owner, claimed.id, exc_info=error)

        work.add_done_callback(forget)

    async def _deliver(self, claimed: ClaimedDelivery, exchange: Exchange) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        outcome: AttemptOutcome | None = None
        try:
            with attempt(claimed) as told:
                outcome = await self._post(claimed)
                told.ended(outcome)
        finally:
            health, asked = (outcome.health, outcome.pause_asked) if outcome else (None, 0.0)
            self._receivers.finished(exchange, health, loop.time(), asked)
            # From here on the outcome is known, and stopping must not lose it.
            self._sending -= {asyncio.current_task()}
        age = claimed.age + loop.time() - begun
        policy = self._policy
        verdict = decide(outcome, claimed.attempts + 1, policy.limits, policy.backoff, age=age, chance=self._chance)
        settled = await self._attempts.put(DeliveryAttempt(claimed, outcome, verdict))
        self._tell(claimed, outcome, verdict, settled)

    async def _settle(self, attempts: Sequence[DeliveryAttempt]) -> Sequence[Settled | None]:
        """Write a batch for the group commit: None for a row that is locked, and for a delivery's second attempt in a
        batch."""
        firsts = {attempt.claimed.id: attempt for attempt in reversed(attempts)}
        came_of = await self._store.settle(list(firsts.values()))
        answers = {id(attempt): settled for attempt, settled in zip(firsts.values(), came_of, strict=True)}
        # Attempts that end meanwhile are written together in the next batch.
        await asyncio.sleep(_GATHER_SECONDS)
        return [None if (settled := answers.get(id(attempt))) is Settled.LOCKED else settled for attempt in attempts]

    def _tell(self, claimed: ClaimedDelivery, outcome: AttemptOutcome, verdict: Verdict, settled: Settled) -> None:
        name = f"{self._owner}: webhook {claimed.id} of task {claimed.task_id}"
        if outcome.delivered:
            _log.info("%s: delivered in %d ms", name, outcome.duration_ms)
        elif settled is Settled.LATE:
            _log.warning("%s: %s; another sender has it now", name, outcome.error)
        elif settled is not Settled.MOVED:
            _log.warning("%s: %s; nothing was written", name, outcome.error)
        elif verdict.status is DeliveryStatus.FAILED:
            _log.error("%s: %s; given up", name, outcome.error)
        else:
            _log.warning("%s: %s; next attempt in %.0f s", name, outcome.error, verdict.delay)

    async def _expire_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            expired = 0
            try:
                expired = await self._store.expire(self._policy.limits.max_age, _EXPIRE_AT_ONCE)
            except DatabaseAway as error:
                _log.warning("%s: the database is out of reach: %s", self._owner, error)
            if expired:
                _log.error("%s: %d webhooks given up, because they are too old", self._owner, expired)
            # While there are more, leave the database most of the time for others.
            await asyncio.sleep(3 * (loop.time() - begun) if expired == _EXPIRE_AT_ONCE else self._policy.expire)

    async def _stop(self, writing: "asyncio.Task[None]") -> None:
        for work in self._sending:
            work.cancel()
        if self._work:
            await asyncio.wait(self._work, timeout=_STOP_SECONDS)
        self._attempts.close()
        await asyncio.wait([writing], timeout=_STOP_SECONDS)
        for work in (*self._work, writing):
            work.cancel()


async def _as_long_as(task: "asyncio.Task[None]") -> None:
    """Wait for the task and raise when it ends; cancelling the wait does not cancel the task."""
    await asyncio.shield(task)
    raise RuntimeError(f"{task.get_name()} has ended")
