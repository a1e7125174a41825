"""Follows a request in a vendor's queue to its end, by the vendor's id. Nothing here costs money."""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import TypeVar

from compute.errors import ProviderFailed
from compute.providers.calls.call import Collected
from compute.providers.calls.http import HttpClient, HttpRequest, HttpResponse
from compute.providers.calls.outcomes import FOLLOWED, Accepted, Answer, NotDeliveredError, OutcomeUnknownError
from compute.providers.calls.protocol import Failed, Finished, Missing, QueueProtocol, Running, Status
from compute.providers.calls.record import CallRecord
from compute.schemas.enums import ErrorCategory
from compute.telemetry.tracing import span

__all__ = ["Following", "Pace"]

_log = logging.getLogger(__name__)
_SLOWER = 1.25
_SLOWEST_SECONDS = 5.0
_FETCH_AGAIN_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 30.0
_SMALL_BYTES = 1 << 16
_MOST_REFUSALS = 3
"""In a row, after which a vendor that does not let us look is believed."""

Progress = Callable[[float], None]
Read = TypeVar("Read")


class Pace:
    """The times at which to look, in seconds: less and less often, or always after `every`."""

    def __init__(self, first: float, every: float | None) -> None:
        self._next = every or first
        self._factor = 1.0 if every else _SLOWER

    def next(self) -> float:
        pause, self._next = self._next, min(self._next * self._factor, max(self._next, _SLOWEST_SECONDS))
        # Those that were sent together do not look together.
        return pause * random.uniform(0.9, 1.1)  # noqa: S311 - no secret


class Following:
    """Looks now and then until the request has ended, and collects its result."""

    def __init__(self, record: CallRecord, http: HttpClient, protocol: QueueProtocol, accepted: Accepted) -> None:
        self._record = record
        self._http = http
        self._protocol = protocol
        self._accepted = accepted
        self._refusals = 0

    async def end(self, pace: Pace, seconds: float, progress: Progress | None) -> Collected:
        """The result, which must be there within `seconds`.

        Raises:
            ProviderFailed: the vendor could not do it, or not in time; or its result cannot be had just now.
        """
        with span("wait for the vendor", compute__vendor__request_id=self._accepted.vendor_id):
            return await self._ended(pace, seconds, progress)

    async def _ended(self, pace: Pace, seconds: float, progress: Progress | None) -> Collected:
        end = asyncio.get_running_loop().time() + seconds
        while True:
            await asyncio.sleep(pace.next())
            match await self._look():
                case Failed(error):
                    raise await self._record.failed(error)
                case Finished(answer):
                    return await self._collect(answer)
                case Running(float(fraction)) if progress is not None:
                    progress(fraction)
            if asyncio.get_running_loop().time() >= end:
                return await self._stop(seconds)

    async def _look(self) -> Status:
        """How it goes. A vendor that does not say is asked again.

        Raises:
            CallUncertain: it refuses to say, or does not know the request. The call stays accepted.
        """
        try:
            status = await self._read(self._protocol.status, self._protocol.ask(self._accepted))
        except (NotDeliveredError, OutcomeUnknownError) as error:
            _log.info("call %s: %s", self._record.call.id, error)
            return Running()
        except ProviderFailed as error:
            if not error.hopeless:
                await asyncio.sleep(min(error.seconds, _LONGEST_PAUSE_SECONDS))
            elif self._refused():
                raise self._record.out_of_sight(error) from error
            return Running()
        if isinstance(status, Missing):
            if self._refused():
                raise self._record.out_of_sight(status.error)
            return Running()
        self._refusals = 0
        return status

    async def _read(self, read: Callable[[HttpResponse], Read], request: HttpRequest) -> Read:
        """What `read` finds in the answer. A large one, which may hold whole images, is read in a thread."""
        response = await self._ask(request)
        if len(response.body) <= _SMALL_BYTES:
            return read(response)
        return await asyncio.to_thread(read, response)

    async def _ask(self, request: HttpRequest) -> HttpResponse:
        return await self._http.ask(self._record.policy.bounded(request), self._record.log)

    def _refused(self) -> bool:
        """Whether this is one refusal too many."""
        self._refusals += 1
        return self._refusals >= _MOST_REFUSALS

    async def _collect(self, answer: Answer | None) -> Collected:
        """Raises:
        ProviderFailed: the result cannot be had. While that may change, the call stays accepted: the next run asks for
            its result, and not for another.
        """
        end = asyncio.get_running_loop().time() + self._record.policy.fetch
        pause = _FETCH_AGAIN_SECONDS
        while True:
            try:
                return await self._record.keep(answer or await self._fetched())
            except (NotDeliveredError, OutcomeUnknownError) as error:
                if asyncio.get_running_loop().time() >= end:
                    raise ProviderFailed(f"The provider's result could not be fetched. {error}") from error
            # Addresses may have expired: they are asked for anew.
            answer = None
            await asyncio.sleep(pause)
            pause = min(pause * 2, _SLOWEST_SECONDS)

    async def _fetched(self) -> Answer:
        """The result, asked for once."""
        request = self._protocol.fetch(self._accepted)
        if request is None:
            return await self._said_again()
        try:
            return await self._read(self._protocol.answer, request)
        except ProviderFailed as error:
            raise await self._record.failed(error) from error

    async def _said_again(self) -> Answer:
        """The result of a vendor that tells it with the status."""
        match await self._look():
            case Failed(error):
                raise await self._record.failed(error)
            case Finished(Answer() as answer):
                return answer
            case Finished():
                raise await self._record.failed(ProviderFailed("The provider says that it is done, and has no result."))
        raise OutcomeUnknownError("The provider did not tell its result again.")

    async def _stop(self, seconds: float) -> Collected:
        """It has taken too long: ask the vendor to stop. If it was done meanwhile, the result is ours.

        Raises:
            ProviderFailed: it was not done. Unless the vendor stops it the call stays accepted, so that the next run
                waits for it, and pays for no other.
        """
        stops = await self._cancelled()
        status = await self._look()
        if isinstance(status, Finished):
            return await self._collect(status.answer)
        ended = "was cancelled; it may be billed all the same" if stops else "could not be cancelled"
        late = ProviderFailed(
            f"It was not done within {seconds:g} s and {ended} (request {self._accepted.vendor_id}).",
            category=ErrorCategory.PROVIDER_TIMEOUT,
            hopeless=stops,
        )
        raise await self._record.failed(late) if stops else late

    async def _cancelled(self) -> bool:
        """Whether the vendor says that it stops."""
        request = self._protocol.cancel(self._accepted)
        if request is None or FOLLOWED in self._accepted.addresses:
            return False
        try:
            return (await self._ask(request)).ok
        except (NotDeliveredError, OutcomeUnknownError) as error:
            _log.warning("call %s could not be cancelled: %s", self._record.call.id, error)
            return False
