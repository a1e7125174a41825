"""The protocol of a vendor with a queue: submit, ask how it goes, fetch the result. Pure; the client does the I/O."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from compute.errors import ProviderFailed
from compute.providers.calls.account import Account
from compute.providers.calls.http import HttpRequest, HttpResponse
from compute.providers.calls.outcomes import Accepted, Answer

__all__ = ["Failed", "Finished", "Missing", "QueueProtocol", "Running", "Status"]


@dataclass(frozen=True, slots=True)
class Running:
    """The vendor is not done. `fraction` in [0, 1], if it says."""

    fraction: float | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The vendor is done. `answer` is the result, unless that has to be asked for."""

    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The vendor could not do it."""

    error: ProviderFailed


@dataclass(frozen=True, slots=True)
class Missing:
    """The vendor does not know the request. It may not know it yet, so it is asked again a few times."""

    error: ProviderFailed


Status = Running | Finished | Failed | Missing


class QueueProtocol(ABC):
    """One endpoint of a vendor, as one account uses it. Methods that read an answer raise `ProviderFailed` for one that
    says no, and `OutcomeUnknownError` for one that cannot be read. For `answer`, only a request that has failed says
    no: what may be there later (the vendor is crowded, or unwell, or does not take the key) is `OutcomeUnknownError`.

    A new vendor is one subclass. It holds nothing open.
    """

    poll_seconds: ClassVar[float] = 1.0
    """Until the first look at a request; later looks are less frequent."""

    def __init__(self, account: Account) -> None:
        self.account = account

    @abstractmethod
    def submit(self, body: Any, webhook: str | None) -> HttpRequest:
        """The paid request. `webhook`: an address of ours that the vendor may call."""

    @abstractmethod
    def accepted(self, response: HttpResponse) -> Accepted:
        """What its answer promises."""

    @abstractmethod
    def ask(self, accepted: Accepted) -> HttpRequest:
        """Asks how it goes."""

    @abstractmethod
    def status(self, response: HttpResponse) -> Status:
        """How it goes. A word that nobody knows means that it is still running."""

    def fetch(self, accepted: Accepted) -> HttpRequest | None:
        """Asks for the result; None where the status has it."""
        return None

    def answer(self, response: HttpResponse) -> Answer:
        """The result, for a vendor that has to be asked for it (`fetch`)."""
        raise NotImplementedError

    def cancel(self, accepted: Accepted) -> HttpRequest | None:
        """Asks to stop; None where that cannot be asked."""
        return None

    def find(self) -> HttpRequest | None:
        """Asks for the account's latest requests, where a vendor lists them: a lost one may be among them."""
        return None

    def found(self, response: HttpResponse, body: Any, age_seconds: float) -> Accepted | None:
        """The one among them that `body` made `age_seconds` ago, if there is exactly one that it can be."""
        return None

    def accepts_webhook(self) -> bool:
        """Whether the vendor calls a webhook that tells which call it is about."""
        return False
