"""The interface of a vendor of language models."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from compute.providers.calls.account import Account
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import Answer
from compute.settings import Settings

__all__ = ["ChatImage", "ChatRequest", "ChatVendor", "OnText"]

OnText = Callable[[str], None]
"""Called with each part of the text as it comes."""


@dataclass(frozen=True, slots=True)
class ChatImage:
    """An encoded image, as the model gets it."""

    data: bytes = field(repr=False)
    content_type: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to a language model.

    Attributes:
        answer_schema: A JSON Schema that the answer must fit; None for plain text.
        max_tokens: Most tokens of the answer; None for the model's own limit.
        seconds: Until the end of the answer.
    """

    model: str
    prompt: str
    system: str | None = None
    images: tuple[ChatImage, ...] = ()
    answer_schema: dict[str, Any] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    seconds: float = 300.0


class ChatVendor(ABC):
    """One vendor, through its official client with the client's own retries switched off.

    A new one is a module of `compute.providers.chat` with a subclass. It holds nothing open.
    """

    name: ClassVar[str]
    """What `ai_provider` calls it, and its accounts."""
    free: ClassVar[bool] = False
    """Nothing is paid, so that a question may be asked again."""

    @abstractmethod
    def account(self, settings: Settings) -> Account:
        """Raises:
        InvalidInput: a setting is missing; names it.
        """

    @abstractmethod
    def endpoint(self, settings: Settings, request: ChatRequest) -> str:
        """The full address that the question goes to, for the ledger."""

    @abstractmethod
    async def ask(
        self, settings: Settings, request: ChatRequest, on_text: OnText | None, log: list[ServiceRequest]
    ) -> Answer:
        """Ask once; with `on_text` the answer is streamed. `units` of the answer has `input_tokens` and
        `output_tokens`, `data` has `model` and `finish_reason` as the vendor says them.

        Raises:
            ProviderFailed: the vendor said no; the category is CONTENT_POLICY for a refusal, INVALID_INPUT for a
                question that it does not take.
            NotDeliveredError, OutcomeUnknownError: see `compute.providers.calls.outcomes`.
        """
