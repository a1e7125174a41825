"""The interface of the ledger of paid calls: everything is durable before it returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from compute.providers.calls.call import Call, Intent

__all__ = ["Ledger", "Pause", "ServiceRequest"]


@dataclass(frozen=True, slots=True)
class Pause:
    """The call may not leave yet: a limit of its account is reached, or its vendor is unwell.

    Attributes:
        seconds: After which to ask again.
        broken: The account's circuit breaker is open.
        asked: The vendor has asked for it.
    """

    seconds: float
    reason: str
    broken: bool = False
    asked: bool = False


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """One request over the wire, as the log keeps it: no body, no header, no query.

    Attributes:
        status: The answer's; None without one.
        ms: From sending to the end of the answer.
        times: How often it was made in a row; polls that say the same are one line.
    """

    method: str
    host: str
    path: str
    status: int | None
    ms: float
    request_id: str | None = None
    error: str | None = None
    times: int = 1


class Ledger(Protocol):
    """What is known of paid calls. `requests` are those since the last report.

    Every method waits for a database that is away, as long as that may help.
    """

    async def begin(self, intent: Intent) -> Call | Pause:
        """The latest call for this part of the task, or this one, which may be sent now.

        Raises:
            LeaseLost: the task is no longer this run's.
            ProviderFailed: the task's calls have taken longer than all of them may.
        """
        ...

    async def accepted(
        self, call_id: UUID, vendor_id: str, addresses: dict[str, str], requests: Sequence[ServiceRequest]
    ) -> bool:
        """The vendor has it, and this is its id. False if that is another call's, too: nothing was written."""
        ...

    async def collected(
        self,
        call_id: UUID,
        result: dict[str, Any],
        units: dict[str, float],
        vendor_id: str | None,
        requests: Sequence[ServiceRequest],
    ) -> None:
        """The result is stored."""
        ...

    async def failed(
        self,
        call_id: UUID,
        category: str,
        message: str,
        *,
        blames: bool,
        pause: float,
        requests: Sequence[ServiceRequest],
    ) -> None:
        """Nothing came of it. `blames`: that counts against the account's health; `pause`, in seconds, is how long the
        account asks to be left alone."""
        ...

    async def uncertain(self, call_id: UUID, message: str, requests: Sequence[ServiceRequest]) -> None:
        """It was sent, and nobody knows what became of it."""
        ...

    async def cancelled(self, call_id: UUID, message: str, requests: Sequence[ServiceRequest]) -> None:
        """Its task has ended before it, and the vendor was told."""
        ...
