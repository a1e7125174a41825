"""A paid call, as the ledger knows it.

INTENT ─▶ ACCEPTED ─▶ COLLECTED        the vendor's id is known; the result is ours
   │         │
   │         ├─▶ FAILED                the vendor could not do it
   │         └─▶ CANCELLED             its task has ended, and the vendor was told
   ├─▶ COLLECTED, FAILED               a vendor that answers at once
   ├─▶ CANCELLED                       its task has ended before the answer came
   └─▶ UNCERTAIN                       sent, and nobody knows what became of it
          ├─▶ ACCEPTED, COLLECTED      it was found after all
          ├─▶ GIVEN_UP                 an operator gave up on it
          └─▶ RESENT                   an operator lets the task send it again
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from compute.providers.calls.account import Account

__all__ = ["AGAIN", "OPEN", "Call", "CallState", "Collected", "CollectedFile", "Intent"]


class CallState(StrEnum):
    """The state of a paid call."""

    INTENT = "INTENT"
    ACCEPTED = "ACCEPTED"
    COLLECTED = "COLLECTED"
    FAILED = "FAILED"
    UNCERTAIN = "UNCERTAIN"
    CANCELLED = "CANCELLED"
    GIVEN_UP = "GIVEN_UP"
    RESENT = "RESENT"


OPEN = frozenset({CallState.INTENT, CallState.ACCEPTED})
"""A vendor may be working on it."""
AGAIN = frozenset({CallState.FAILED, CallState.CANCELLED, CallState.RESENT})
"""The next run of its task makes a new call in its stead."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A call that is about to leave, for one part of a task.

    Attributes:
        part: What it is of its task, such as `image` or `tile/3/try/1`. A later run of the task asks for the same. So
            does who asks again without a task: there the part also names what it belongs to.
        provider: The provider whose configuration asks for it; `account` is who is paid.
        endpoint: The host and path that it goes to.
        id: Of the call.
        fence: Of the run; None for a call without a task.
    """

    part: str
    provider: str
    account: Account
    endpoint: str
    task_id: UUID | None
    fence: int | None
    id: UUID = field(default_factory=uuid4)


@dataclass(frozen=True, slots=True)
class CollectedFile:
    """A file of a result, stored at `path`; `size` in bytes, `sha256` in hex, sides of a picture in pixels."""

    path: str
    content_type: str
    size: int
    sha256: str
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class Collected:
    """The result of a call, stored where its address at the vendor no longer matters."""

    files: tuple[CollectedFile, ...] = ()
    text: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    units: dict[str, float] = field(default_factory=dict)
    vendor_id: str | None = None

    @classmethod
    def of(cls, stored: dict[str, Any], units: dict[str, float], vendor_id: str | None) -> "Collected":
        """From its row."""
        files = tuple(CollectedFile(**one) for one in stored.get("files", ()))
        return cls(files, stored.get("text"), stored.get("data", {}), units, vendor_id)


@dataclass(frozen=True, slots=True)
class Call:
    """A call's row. `is_new`: this very intent made it, so it has not been sent yet."""

    id: UUID
    part: str
    state: CallState
    is_new: bool
    attempt: int
    vendor_id: str | None = None
    addresses: dict[str, str] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    units: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    age_seconds: float = 0.0
    uncertain_seconds: float = 0.0
    """How long its outcome has been unknown."""
