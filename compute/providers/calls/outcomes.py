"""What can become of one request to a vendor.

    an answer            it did what it was asked for
    ProviderFailed       it answered that it does not: nothing was made, nothing is paid
    NotDeliveredError    nothing reached it
    OutcomeUnknownError  it was sent, and no answer tells what became of it: it may have been made, and be paid

Every client of a vendor's raises these and no others; what may be done next follows from them alone.
"""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["FOLLOWED", "Accepted", "Answer", "AnswerFile", "NotDeliveredError", "OutcomeUnknownError"]


FOLLOWED = "followed"
"""Among the addresses of a request that somebody else has submitted, and that is not ours to cancel."""


class NotDeliveredError(Exception):
    """The request never left, or no connection was made: it may be sent again."""


class OutcomeUnknownError(Exception):
    """The request was sent, and what became of it is not known."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A vendor's promise: its id for the request, and the addresses that its answer names, if it does."""

    vendor_id: str
    addresses: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AnswerFile:
    """A file that a vendor made: its bytes, or the address at which it lies for a while."""

    data: bytes | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a vendor made.

    Attributes:
        text: Of a language model.
        data: What else is worth keeping, as JSON.
        units: What is paid for, as far as the vendor says: `images`, `megapixels`, `input_tokens`, `output_tokens`,
            `seconds`, `credits`.
        vendor_id: The vendor's id of the request.
    """

    files: tuple[AnswerFile, ...] = ()
    text: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    units: dict[str, float] = field(default_factory=dict)
    vendor_id: str | None = None
