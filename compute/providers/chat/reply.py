"""What a language model says, gathered from one answer or from the parts of a stream."""

from typing import Any

from compute.errors import ProviderFailed
from compute.providers.calls.answers import counts_of, plain_id
from compute.providers.calls.outcomes import Answer, OutcomeUnknownError
from compute.providers.calls.storable import storable_text
from compute.providers.chat.base import OnText
from compute.providers.vendors.refusals import sentence
from compute.schemas.enums import ErrorCategory

__all__ = ["Reply", "policy"]


class Reply:
    """An answer so far.

    Attributes:
        finish: Why it ended, in the vendor's word; None while it has not.
        input_tokens, output_tokens: As the vendor counts them, in whatever form; None while it has not.
    """

    def __init__(self, model: str, on_text: OnText | None = None) -> None:
        self.model = model
        self.finish: str | None = None
        self.input_tokens: Any = None
        self.output_tokens: Any = None
        self._parts: list[str] = []
        self._on_text = on_text

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def say(self, text: str | None) -> None:
        """Add a part of the text."""
        if text := storable_text(text or ""):
            self._parts.append(text)
            if self._on_text is not None:
                self._on_text(text)

    def answer(self, vendor_id: str | None) -> Answer:
        """The whole of it.

        Raises:
            OutcomeUnknownError: it has not ended.
        """
        if self.finish is None:
            raise OutcomeUnknownError("Its answer ended before its end.")
        counted = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        return Answer(
            text=self.text,
            data={"model": self.model, "finish_reason": self.finish},
            units=counts_of(counted),
            vendor_id=plain_id(vendor_id),
        )


def policy(vendor: str, words: str, request_id: str | None) -> ProviderFailed:
    """The error for an answer in which a vendor refuses to talk about it, in its `words`."""
    return ProviderFailed(sentence(vendor, words, plain_id(request_id)), category=ErrorCategory.CONTENT_POLICY)
