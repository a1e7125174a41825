"""The paid calls of one job: each is in the ledger before it leaves, and no lost answer makes it leave again.

A run of a task asks for the parts that it needs. What an earlier run has collected is taken as it is; what a vendor
has accepted is waited for by its id; what was sent and never answered is looked for, and waits for an operator.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from compute.errors import ProviderFailed, TaskFailed
from compute.providers.calls.account import Account
from compute.providers.calls.call import Call, CallState, Collected, Intent
from compute.providers.calls.files import KeepsFiles
from compute.providers.calls.following import Following, Pace, Progress
from compute.providers.calls.http import HttpClient
from compute.providers.calls.ledger import Ledger, Pause, ServiceRequest
from compute.providers.calls.outcomes import FOLLOWED, Accepted, Answer, NotDeliveredError, OutcomeUnknownError
from compute.providers.calls.protocol import QueueProtocol
from compute.providers.calls.record import CallPolicy, CallRecord, Owner
from compute.providers.calls.under_way import UnderWay
from compute.schemas.enums import ErrorCategory

__all__ = ["JobCalls", "Send"]

_log = logging.getLogger(__name__)
_WORTH_WAITING_SECONDS = 10.0
_LOST = "It was sent, and its answer was lost with the process that waited for it."

Send = Callable[[list[ServiceRequest]], Awaitable[Answer]]
"""Makes a request and notes it in the list. Raises what `compute.providers.calls.outcomes` says, and nothing else."""


class JobCalls:
    """Makes the calls of one owner. Several parts may be under way at a time.

    Example:
        made = await calls.queued("image", FalQueue(account, "fal-ai/flux/dev"), {"prompt": "a red dress"})
        made.files[0].path  # "generations/…/calls/image/0.png"
    """

    def __init__(
        self,
        owner: Owner,
        ledger: Ledger,
        http: HttpClient,
        files: KeepsFiles,
        policy: CallPolicy,
        under_way: UnderWay | None = None,
    ) -> None:
        """`under_way` are the requests of all owners in this process."""
        self.http = http
        self._owner = owner
        self._ledger = ledger
        self._files = files
        self._policy = policy
        self._under_way = under_way or UnderWay()

    async def queued(
        self,
        part: str,
        protocol: QueueProtocol,
        body: Any,
        *,
        known: Accepted | None = None,
        progress: Progress | None = None,
        wait: float | None = None,
        poll: float | None = None,
    ) -> Collected:
        """Have a vendor's queue do `body`, and keep the result. `wait` replaces the policy's limit, `poll` the
        protocol's pace; both in seconds. A request that is `known`, because somebody else has submitted it, is followed
        and nothing is submitted.

        Raises:
            ProviderFailed: the vendor does not do it, or not in time.
            CallUncertain: whether it does is not known.
            LeaseLost: the task is no longer this run's.
        """
        record = await self._begin(part, protocol.account, protocol.submit(body, None).url)
        if record.collected is not None:
            return record.collected
        # An answer that is on its way is waited for, also by a run that was stopped.
        accepted = await self._under_way.to_its_end(self._accepted(record, protocol, body, known))
        following = Following(record, self.http, protocol, accepted)
        return await following.end(
            Pace(self._policy.poll or protocol.poll_seconds, poll), wait or self._policy.wait, progress
        )

    async def direct(self, part: str, account: Account, endpoint: str, send: Send, *, free: bool = False) -> Collected:
        """Make a call that is answered at once, and keep the answer. `endpoint` is its full address. What is `free` is
        asked for again when its answer was lost.

        Raises:
            ProviderFailed, CallUncertain, LeaseLost: as `queued`.
        """
        record = await self._begin(part, account, endpoint)
        if record.collected is not None:
            return record.collected
        if not record.call.is_new and not free:
            raise await record.unknown(record.call.error or _LOST)
        answering = self._answered(record, send, free=free)
        return await self._under_way.to_its_end(answering, task_id=self._owner.task_id)

    async def _answered(self, record: CallRecord, send: Send, *, free: bool) -> Collected:
        try:
            return await self._kept(record, send, free=free)
        except asyncio.CancelledError:
            self._under_way.later(record.cut_off())
            raise

    async def _kept(self, record: CallRecord, send: Send, *, free: bool) -> Collected:
        try:
            answer = await self._sent(send, record)
        except NotDeliveredError as error:
            raise await record.not_delivered(error) from error
        except OutcomeUnknownError as error:
            if free:
                raise await record.failed(ProviderFailed(f"There was no usable answer. {error}")) from error
            raise await record.unknown(str(error)) from error
        except ProviderFailed as error:
            raise await record.failed(error) from error
        except Exception as error:
            raise await record.broken(error) from error
        try:
            return await record.keep(answer)
        except OutcomeUnknownError as error:
            # Only a vendor that keeps the request could be asked for its files again.
            raise await record.failed(ProviderFailed(str(error))) from error

    async def _sent(self, send: Send, record: CallRecord) -> Answer:
        try:
            async with asyncio.timeout(self._policy.answer):
                return await send(record.log)
        except TimeoutError as error:
            raise OutcomeUnknownError("There was no answer in time.") from error

    async def _begin(self, part: str, account: Account, url: str) -> CallRecord:
        owner, endpoint = self._owner, url.split("://", 1)[-1].split("?", 1)[0]
        intent = Intent(part, owner.provider, account, endpoint, owner.task_id, owner.fence)
        while True:
            call = await self._begun(intent)
            if not isinstance(call, Pause):
                return CallRecord(call, owner, self._ledger, self._files, self._policy)
            if (call.broken or call.asked) and call.seconds > _WORTH_WAITING_SECONDS:
                raise ProviderFailed(
                    f"{account.vendor} is left alone for {call.seconds:.0f} s. {call.reason}",
                    seconds=call.seconds,
                    charged=False,
                )
            seconds = min(call.seconds, _WORTH_WAITING_SECONDS)
            await asyncio.sleep(seconds * random.uniform(1.0, 1.2))  # noqa: S311 - spreads those that wait

    async def _begun(self, intent: Intent) -> Call | Pause:
        """As the ledger says. Of a run that is stopped meanwhile, the ledger is told that nothing has left."""
        asking = asyncio.ensure_future(self._ledger.begin(intent))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            self._under_way.later(self._withdraw(asking))
            raise

    async def _withdraw(self, asking: "asyncio.Future[Call | Pause]") -> None:
        try:
            call = await asking
        except TaskFailed:
            return
        if isinstance(call, Call) and call.is_new:
            stopped = "The run was stopped before it was sent."
            await self._ledger.failed(call.id, ErrorCategory.CANCELLED, stopped, blames=False, pause=0.0, requests=())

    async def _accepted(
        self, record: CallRecord, protocol: QueueProtocol, body: Any, known: Accepted | None
    ) -> Accepted:
        call = record.call
        if call.state is CallState.ACCEPTED and call.vendor_id is not None:
            return Accepted(call.vendor_id, call.addresses)
        if call.state is CallState.GIVEN_UP:
            raise await record.unknown(call.error or _LOST)
        if known is not None:
            return await record.accepted(replace(known, addresses={**known.addresses, FOLLOWED: ""}))
        return await (self._submit if call.is_new else self._look_for)(record, protocol, body)

    async def _submit(self, record: CallRecord, protocol: QueueProtocol, body: Any) -> Accepted:
        """Send it, the one time that it is sent."""
        base = self._policy.webhook_url if protocol.accepts_webhook() else None
        request = protocol.submit(body, base and f"{base}/{record.call.id}")
        try:
            accepted = protocol.accepted(await self.http.pay(self._policy.bounded(request), record.log))
        except NotDeliveredError as error:
            raise await record.not_delivered(error) from error
        except OutcomeUnknownError as error:
            raise await record.unknown(str(error)) from error
        except ProviderFailed as error:
            raise await record.failed(error) from error
        except Exception as error:
            raise await record.broken(error) from error
        return await record.accepted(accepted)

    async def _look_for(self, record: CallRecord, protocol: QueueProtocol, body: Any) -> Accepted:
        """The lost call, if the vendor lists it.

        Raises:
            CallUncertain: it does not.
        """
        if (request := protocol.find()) is not None:
            try:
                response = await self.http.ask(self._policy.bounded(request), record.log)
                found = protocol.found(response, body, record.call.age_seconds)
            except (NotDeliveredError, OutcomeUnknownError, ProviderFailed) as error:
                _log.warning("call %s: its vendor's list could not be read: %s", record.call.id, error)
            else:
                if found is not None:
                    return await record.accepted(found)
        raise await record.unknown(record.call.error or _LOST)
