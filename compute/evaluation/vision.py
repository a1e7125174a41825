"""The vision model that looks at images: which one it is, and one paid question to it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from compute.errors import CallUncertain, InvalidInput, ProviderFailed
from compute.providers.calls.account import Account
from compute.providers.calls.call import Collected
from compute.providers.calls.job import JobCalls
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import Answer
from compute.providers.chat.base import ChatRequest, ChatVendor
from compute.providers.chat.registry import chat_vendors
from compute.schemas.enums import ErrorCategory
from compute.schemas.evaluation import VisionProvider
from compute.settings import Settings

__all__ = ["LONGEST_SIDE", "VisionModel"]

LONGEST_SIDE = 1536
"""Pixels of a side, above which images are scaled down before a model sees them."""
_WORTH_ASKING_SECONDS = 1.0
_LATE_SECONDS = 5.0
_NONE = "No vision provider is configured: set OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY or OLLAMA_HOST."


@dataclass(frozen=True, slots=True)
class VisionModel:
    """A vendor's model, and the account that pays for it.

    Example:
        model = VisionModel.of(settings, VisionProvider.OPENAI, field="provider")
        answer = await model.ask(calls, "evaluation/1", ChatRequest(model.name, "What is this?"), seconds=60.0)
    """

    vendor: ChatVendor
    account: Account
    name: str
    settings: Settings

    @classmethod
    def of(
        cls,
        settings: Settings,
        provider: VisionProvider | None = None,
        *,
        field: str,
    ) -> "VisionModel":
        """The model of a vendor; by default that of COMPUTE_VISION_PROVIDER, or of the first vendor that is set up.

        Raises:
            InvalidInput: a setting is missing; names it. `field` is the part of the request that asks for the model.
        """
        known = chat_vendors()
        vendor = provider or settings.vision_provider or _first(settings, known)
        if vendor is None:
            raise InvalidInput(_NONE, field=field)
        name = settings.chat_models.get(vendor)
        if name is None:
            raise InvalidInput(f"Set a model of {vendor} in COMPUTE_CHAT_MODELS to use it.", field=field)
        try:
            return cls(known[vendor], known[vendor].account(settings), name, settings)
        except InvalidInput as missing:
            raise InvalidInput(missing.detail, field=field) from missing

    async def ask(self, calls: JobCalls, part: str, request: ChatRequest, *, seconds: float) -> Collected:
        """Ask once, and keep the answer under `part` in the ledger; it must be there within `seconds`.

        Raises:
            ProviderFailed, CallUncertain: as `JobCalls.direct`. Without `charged`, nothing was asked.
        """
        end = asyncio.get_running_loop().time() + seconds
        was_sent = False

        async def send(log: list[ServiceRequest]) -> Answer:
            nonlocal was_sent
            left = end - asyncio.get_running_loop().time()
            if left < _WORTH_ASKING_SECONDS:
                raise self._not_asked()
            was_sent = True
            return await self.vendor.ask(self.settings, replace(request, seconds=left), None, log)

        endpoint = self.vendor.endpoint(self.settings, request)
        asking = calls.direct(part, self.account, endpoint, send, free=self.vendor.free)
        try:
            # What was sent has an end of its own, which says more.
            async with asyncio.timeout_at(end + _LATE_SECONDS):
                return await asking
        except TimeoutError as late:
            if not was_sent:
                raise self._not_asked() from late
            raise CallUncertain(f"{self.vendor.name} was asked, and the ledger could not be written.") from late

    def _not_asked(self) -> ProviderFailed:
        return ProviderFailed(
            f"{self.vendor.name} was not asked: limits of its account, or the database, left no time for that.",
            category=ErrorCategory.PROVIDER_TIMEOUT,
            charged=False,
        )


def _first(settings: Settings, vendors: Mapping[str, ChatVendor]) -> str | None:
    """The first vendor that an operator has set up. Ollama needs no key: it is, where its address was set."""
    for provider in (one for one in VisionProvider if one in vendors):
        if provider is VisionProvider.OLLAMA and "ollama_host" not in settings.model_fields_set:
            continue
        try:
            vendors[provider].account(settings)
        except InvalidInput:
            continue
        return provider
    return None
