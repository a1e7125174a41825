"""What is written to the ledger, one class for each kind of news of a call."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from compute.providers.calls.call import Intent
from compute.providers.calls.ledger import ServiceRequest

__all__ = ["Accept", "Begin", "Collect", "End", "LedgerWrite"]


@dataclass(frozen=True, slots=True)
class Begin:
    """A call is about to leave."""

    intent: Intent

    @property
    def call_id(self) -> UUID:
        return self.intent.id


@dataclass(frozen=True, slots=True)
class Accept:
    """Its vendor has it."""

    call_id: UUID
    vendor_id: str
    addresses: dict[str, str]
    requests: Sequence[ServiceRequest]


@dataclass(frozen=True, slots=True)
class Collect:
    """Its result is stored."""

    call_id: UUID
    result: dict[str, Any]
    units: dict[str, float]
    vendor_id: str | None
    requests: Sequence[ServiceRequest]


@dataclass(frozen=True, slots=True)
class End:
    """It ended without a result, or its outcome is unknown: `state` is FAILED, CANCELLED or UNCERTAIN.

    Attributes:
        blames: It counts against the health of its account.
        pause: How long the account asks to be left alone, in seconds.
    """

    call_id: UUID
    state: str
    message: str
    requests: Sequence[ServiceRequest]
    category: str | None = None
    blames: bool = False
    pause: float = 0.0


LedgerWrite = Begin | Accept | Collect | End
