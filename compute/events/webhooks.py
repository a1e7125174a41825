"""Sends the outbox: every webhook is signed, retried and logged until its receiver has it.

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
`v1,` signature in the header (there are two, parted by a space, while the operator changes the secret), and refuse
timestamps more than five minutes away from your clock.

Answer any 2xx within the sender's timeout (15 s as shipped), and do slow work afterwards. A message can arrive
more than once, so remember the `webhook-id`s that you have handled; messages are not ordered, so go by the
`timestamp` in the body. Answer 410 to refuse a message for good. Any other answer, a redirect included, is tried
again over about 24 hours (see `Backoff`); 429 and 503 may ask for a longer pause with Retry-After.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass

from standardwebhooks import Webhook

from compute.db.away import DatabaseAway
from compute.db.session import Database
from compute.events import webhook_rows as rows
from compute.events.webhook_post import post
from compute.events.webhook_receivers import Receivers
from compute.events.webhook_retry import Backoff, DeliveryStatus, Outcome, Verdict
from compute.events.webhook_secret import signing_secrets
from compute.storage.net import GuardedClient

__all__ = ["Backoff", "DeliveryStatus", "SendPolicy", "WebhookSender"]

_log = logging.getLogger(__name__)
_WRITERS = 4
_PROMPT_MS = 2000
_RETRY_WRITE_SECONDS = 0.5
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """`poll` and `lease_margin` in seconds; `in_flight` and `per_receiver` in requests of this sender at once.

    A claim holds for the request's timeout and `lease_margin` more, in which a database that is away may return.
    """

    poll: float = 1.0
    lease_margin: float = 30.0
    in_flight: int = 64
    per_receiver: int = 8


class WebhookSender:
    """Sends due deliveries until cancelled. Several may run: the rows keep them apart.

    Delivery is at least once. A sender that dies leaves its leases behind, and when they run out another one
    sends again. `owner` names this sender in the log. The database and the client stay the caller's to close.
    """

    def __init__(
        self,
        database: Database,
        client: GuardedClient,
        *,
        secret: str,
        max_attempts: int = 10,
        timeout_seconds: float = 15.0,
        owner: str = "webhooks",
        backoff: Backoff | None = None,
        policy: SendPolicy | None = None,
    ) -> None:
        """Prepare a sender; `secret` may be two, parted by white space, and `timeout_seconds` bounds one whole request.

        Raises:
            ValueError: a secret is not of the form `whsec_<base64>`.
        """
        self._database = database
        self._client = client
        self._signers = [Webhook(one) for one in signing_secrets(secret)]
        self._max_attempts = max_attempts
        self._timeout_seconds = timeout_seconds
        self._owner = owner
        self._backoff = backoff or Backoff()
        self._policy = policy or SendPolicy()
        self._lease_seconds = timeout_seconds + self._policy.lease_margin
        self._receivers = Receivers(self._policy.per_receiver)
        self._work: set[asyncio.Task[None]] = set()
        self._sending: set[asyncio.Task[None]] = set()
        self._writers = asyncio.Semaphore(_WRITERS)
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Send until cancelled; then stop what is being sent, and write what was answered."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                begun = loop.time()
                claimed = await self._claim()
                # A claim that takes long walks a long backlog: rest as long, and the database keeps half its time.
                await asyncio.sleep(loop.time() - begun)
                if not claimed:
                    await self._wait()
        finally:
            await asyncio.shield(self._stop())

    async def _claim(self) -> int:
        """Lease what may be sent now and begin to send it; how many there were."""
        free = self._policy.in_flight - len(self._work)
        if free <= 0:
            return 0
        lease_ends = asyncio.get_running_loop().time() + self._lease_seconds
        try:
            async with self._database.transaction() as session:
                claimed = await rows.claim(
                    session, limit=free, rooms=self._receivers.rooms(), lease_seconds=self._lease_seconds
                )
        except DatabaseAway as error:
            _log.warning("%s: sending paused, the database is out of reach: %s", self._owner, error)
            return 0
        for delivery in claimed:
            self._launch(delivery, lease_ends)
        return len(claimed)

    async def _wait(self) -> None:
        """Until a request ends and leaves room for another, or it is time to look again."""
        # Not wait_for: when both come at once, the one of Python 3.11 forgets that it was cancelled.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._policy.poll):
                await self._wake.wait()
        self._wake.clear()

    def _launch(self, claimed: rows.Claimed, lease_ends: float) -> None:
        self._receivers.started(claimed.receiver)
        work = asyncio.create_task(self._deliver(claimed, lease_ends), name=f"webhook-{claimed.id}")
        self._work.add(work)
        self._sending.add(work)

        def forget(done: asyncio.Task[None]) -> None:
            self._work.discard(done)
            self._wake.set()
            if not done.cancelled() and (error := done.exception()):
                _log.error("%s: webhook %s was dropped until its lease ends", self._owner, claimed.id, exc_info=error)

        work.add_done_callback(forget)

    async def _deliver(self, claimed: rows.Claimed, lease_ends: float) -> None:
        prompt = False
        try:
            outcome = await post(self._client, self._signers, claimed, self._timeout_seconds)
            prompt = outcome.delivered and outcome.duration_ms <= _PROMPT_MS
        finally:
            self._receivers.finished(claimed.receiver, prompt=prompt)
            # From here on an answer is known, and stopping must not lose it.
            self._sending -= {asyncio.current_task()}
        await self._write(claimed, outcome, lease_ends)

    async def _write(self, claimed: rows.Claimed, outcome: Outcome, lease_ends: float) -> None:
        """Write how the attempt ended, waiting out a database that is away for as long as the lease holds."""
        loop = asyncio.get_running_loop()
        async with self._writers:
            while True:
                try:
                    async with self._database.transaction() as session:
                        verdict = await rows.settle(
                            session, claimed, outcome, max_attempts=self._max_attempts, backoff=self._backoff
                        )
                    break
                except DatabaseAway as error:
                    _log.warning("%s: database out of reach, trying again: %s", self._owner, error)
                    if loop.time() > lease_ends:
                        _log.error("%s: webhook %s: its attempt could not be written", self._owner, claimed.id)
                        return
                    await asyncio.sleep(_RETRY_WRITE_SECONDS)
        self._tell(claimed, outcome, verdict)

    def _tell(self, claimed: rows.Claimed, outcome: Outcome, verdict: Verdict | None) -> None:
        name = f"{self._owner}: webhook {claimed.id} of task {claimed.task_id}"
        if outcome.delivered:
            _log.info("%s: delivered in %d ms", name, outcome.duration_ms)
        elif verdict is None:
            _log.warning("%s: %s; another sender has it now", name, outcome.error)
        elif verdict.status is DeliveryStatus.FAILED:
            _log.error("%s: %s; given up", name, outcome.error)
        else:
            _log.warning("%s: %s; next attempt in %.0f s", name, outcome.error, verdict.delay)

    async def _stop(self) -> None:
        for work in self._sending:
            work.cancel()
        if self._work:
            await asyncio.wait(self._work, timeout=_STOP_SECONDS)
        for work in self._work:
            work.cancel()
