"""One paid call under way, and what the ledger is told of it."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from uuid import UUID

from compute.errors import CallUncertain, ProviderFailed
from compute.providers.calls.call import Call, CallState, Collected, CollectedFile
from compute.providers.calls.files import KeepsFiles
from compute.providers.calls.http import HttpRequest
from compute.providers.calls.ledger import Ledger, ServiceRequest
from compute.providers.calls.outcomes import Accepted, Answer, NotDeliveredError
from compute.providers.calls.storable import storable, storable_text

__all__ = ["CallPolicy", "CallRecord", "Owner"]

_log = logging.getLogger(__name__)
_LOOKS_AGAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """Limits in seconds.

    Attributes:
        wait: Until a vendor's queue must have done a request.
        fetch: Until its result must have been fetched.
        uncertain: How long a task waits for news of a call whose outcome is unknown, before it fails.
        answer: Until a request must have been answered, instead of the request's own.
        poll: Until the first look at a request in a queue, instead of the protocol's own.
        webhook_url: The base of the addresses that vendors call, without the call's id; None where they cannot.
    """

    wait: float = 1800.0
    fetch: float = 120.0
    uncertain: float = 900.0
    answer: float | None = None
    poll: float | None = None
    webhook_url: str | None = None

    def bounded(self, request: HttpRequest) -> HttpRequest:
        """The request with the time that it may take."""
        return request if self.answer is None else replace(request, seconds=self.answer)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose calls they are: a run of a task, or of nobody's.

    Attributes:
        folder: Where files of results are stored.
    """

    provider: str
    folder: str
    task_id: UUID | None = None
    fence: int | None = None


class CallRecord:
    """Says in the ledger what becomes of a call. Methods that name a failure return the error to raise.

    Attributes:
        log: Requests since the last report, which clients append to.
    """

    def __init__(self, call: Call, owner: Owner, ledger: Ledger, files: KeepsFiles, policy: CallPolicy) -> None:
        self.call = call
        self.policy = policy
        self.log: list[ServiceRequest] = []
        self._owner = owner
        self._ledger = ledger
        self._files = files

    @property
    def collected(self) -> Collected | None:
        """The result, if an earlier run has collected it."""
        call = self.call
        if call.state is not CallState.COLLECTED:
            return None
        return Collected.of(call.result or {}, call.units, call.vendor_id)

    async def accepted(self, accepted: Accepted) -> Accepted:
        """The vendor has it: before anything is waited for.

        Raises:
            CallUncertain: the vendor has said the same id for another call, whose result it may be.
        """
        if not await self._ledger.accepted(self.call.id, accepted.vendor_id, accepted.addresses, self._lines()):
            raise await self.unknown(f"The vendor said the id {accepted.vendor_id}, which is another call's.")
        self.call = replace(self.call, vendor_id=accepted.vendor_id)
        return accepted

    async def keep(self, answer: Answer) -> Collected:
        """Store an answer.

        Raises:
            ProviderFailed: its files cannot be had.
            OutcomeUnknownError: they cannot be had just now. Nothing is said in the ledger.
            StorageFailed: they could not be stored.
        """
        folder = f"{self._owner.folder}/{self.call.part}"
        try:
            files = [await self._files.keep(made, f"{folder}/{index}") for index, made in enumerate(answer.files)]
        except ProviderFailed as error:
            # It was made, and is paid. Another one would be no better.
            worthless = ProviderFailed(error.detail, category=error.category, hopeless=True)
            raise await self.failed(worthless) from error
        text, data = storable(answer.text), storable(answer.data)
        result = {"files": [asdict(file) for file in files], "text": text, "data": data}
        vendor_id, units = answer.vendor_id or self.call.vendor_id, _units(answer, files)
        await self._ledger.collected(self.call.id, result, units, vendor_id, self._lines())
        return Collected(tuple(files), text, data, units, vendor_id)

    async def failed(self, error: ProviderFailed) -> ProviderFailed:
        """Nothing came of it."""
        pause = 0.0 if error.charged else error.seconds
        await self._ledger.failed(
            self.call.id,
            error.category,
            storable_text(error.detail),
            blames=error.blames,
            pause=pause,
            requests=self._lines(),
        )
        return error

    async def cut_off(self) -> None:
        """Its task was cancelled, and so was the request."""
        said = "Its task was cancelled while it was answered; it may be billed."
        await self._ledger.cancelled(self.call.id, said, self._lines())

    def out_of_sight(self, error: ProviderFailed) -> CallUncertain:
        """The vendor has accepted it, and does not tell any more how it goes. That may pass: it stays accepted."""
        said = f"{self._owner.provider} has accepted the call {self.call.id}, and does not tell what became of it"
        if self.call.age_seconds >= self.policy.wait + self.policy.uncertain:
            return CallUncertain(f"{said}; it may have been paid. {error.detail}")
        return CallUncertain(f"{said}. {error.detail}", seconds=_LOOKS_AGAIN_SECONDS, charged=False)

    async def not_delivered(self, error: NotDeliveredError) -> ProviderFailed:
        """Nothing reached the vendor."""
        return await self.failed(ProviderFailed(f"{self._owner.provider} could not be reached. {error}"))

    async def unknown(self, reason: str) -> CallUncertain:
        """It was sent, and nobody knows what became of it."""
        call, provider = self.call, self._owner.provider
        if call.state is CallState.GIVEN_UP:
            return CallUncertain(
                f"What became of the call {call.id} is unknown, and an operator gave up on it. {reason}"
            )
        if call.state is not CallState.UNCERTAIN:
            _log.error("call %s to %s: its outcome is unknown: %s", call.id, provider, reason)
            await self._ledger.uncertain(call.id, reason, self._lines())
        if call.uncertain_seconds >= self.policy.uncertain:
            return CallUncertain(
                f"The call {call.id} was sent to {provider}, and what became of it could not be found out; it may have "
                f"been paid. {reason}"
            )
        return CallUncertain(
            f"The call {call.id} was sent to {provider}, and what became of it is not known yet; it is not sent again. "
            f"{reason}",
            seconds=_LOOKS_AGAIN_SECONDS,
            charged=False,
        )

    async def broken(self, error: Exception) -> CallUncertain:
        """It was sent, and our own code failed before its outcome was known: as good as no answer."""
        _log.error("call %s: a fault after it was sent", self.call.id, exc_info=error)
        return await self.unknown(f"Its answer could not be read ({type(error).__name__}).")

    def _lines(self) -> list[ServiceRequest]:
        lines = list(self.log)
        self.log.clear()
        return lines


def _units(answer: Answer, files: Sequence[CollectedFile]) -> dict[str, float]:
    """What is paid for: as the vendor says, else as the pictures are."""
    pictures = [file.width * file.height for file in files if file.width]
    seen = {"images": float(len(pictures)), "megapixels": sum(pictures) / 1e6} if pictures else {}
    return {"calls": 1.0} | seen | answer.units
