"""Google's Gemini, by the Gemini API or Vertex."""

from typing import Any

from compute.errors import ProviderFailed
from compute.providers.calls.account import Account
from compute.providers.calls.answers import mapping, plain_id, total
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import Answer, OutcomeUnknownError
from compute.providers.calls.sdk import loaded, no_word_of
from compute.providers.chat.base import ChatRequest, ChatVendor, OnText
from compute.providers.chat.reply import Reply, policy
from compute.providers.vendors.google.account import account, endpoint, forbids
from compute.settings import Settings

__all__ = ["GeminiChat"]

_ENDS = frozenset({"STOP", "MAX_TOKENS"})


class GeminiChat(ChatVendor):
    """Gemini."""

    name = "gemini"

    def account(self, settings: Settings) -> Account:
        return account(settings, user=self.name)

    def endpoint(self, settings: Settings, request: ChatRequest) -> str:
        return endpoint(settings, request.model)

    async def ask(
        self, settings: Settings, request: ChatRequest, on_text: OnText | None, log: list[ServiceRequest]
    ) -> Answer:
        google = await loaded("compute.providers.vendors.google.chat")
        said = _Said(request.model, on_text)
        asked = google.ask if on_text is None else google.ask_streaming
        with no_word_of(self.account(settings).key):
            await asked(settings, request, said.take, log, user=self.name)
            return said.answer(None)


class _Said(Reply):
    _id: str | None = None
    _blocked = ""
    _why = ""

    def take(self, part: Any) -> None:
        """Take an answer, or a part of its stream.

        Raises:
            OutcomeUnknownError: it is not of the form that Google promises.
        """
        try:
            self._take(part)
        except (AttributeError, KeyError, TypeError) as error:
            raise OutcomeUnknownError(f"Its answer could not be read: {type(error).__name__}.") from error

    def _take(self, part: Any) -> None:
        self._id = plain_id(part.get("responseId")) or self._id
        self.model = part.get("modelVersion") or self.model
        self._blocked = mapping(part.get("promptFeedback")).get("blockReason") or self._blocked
        self._count(mapping(part.get("usageMetadata")))
        for candidate in (part.get("candidates") or ())[:1]:
            for one in mapping(candidate.get("content")).get("parts") or ():
                self.say(None if one.get("thought") else one.get("text"))
            if reason := candidate.get("finishReason"):
                self.finish = str(reason)
            self._why = candidate.get("finishMessage") or self._why

    def answer(self, vendor_id: str | None) -> Answer:
        if self._blocked:
            raise policy("Google", f"The question is blocked: {self._blocked}.", self._id)
        if self.finish is not None and (forbids(self.finish) or self.finish == "LANGUAGE"):
            raise policy("Google", f"The answer is held back: {self.finish}. {self._why}", self._id)
        if self.finish is not None and self.finish not in _ENDS and not self.text:
            raise ProviderFailed(f"Google: there is no answer: {self.finish}. {self._why} (request {self._id})")
        return super().answer(self._id)

    def _count(self, usage: Any) -> None:
        self.input_tokens = usage.get("promptTokenCount", self.input_tokens)
        counts = [usage.get(name) for name in ("candidatesTokenCount", "thoughtsTokenCount")]
        if any(count is not None for count in counts):
            self.output_tokens = total(counts)
