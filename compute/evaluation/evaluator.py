"""Evaluates images: one paid question to a vision model each, strictly read, counted in the database."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import uuid4
from weakref import WeakValueDictionary

from compute.capacity import Capacity
from compute.db.away import DatabaseAway
from compute.db.session import Database
from compute.errors import CallUncertain, InvalidInput, ProviderFailed, TaskFailed, Unavailable
from compute.evaluation.instructions import answer_schema, question, system_text
from compute.evaluation.reading import UnusableAnswer, json_answer, read_evaluation
from compute.evaluation.statistics import count, counts_of, health_of, state_of
from compute.evaluation.vision import VisionModel
from compute.providers.calls.job import JobCalls
from compute.providers.calls.record import Owner
from compute.providers.chat.base import ChatImage, ChatRequest
from compute.providers.ledger.gate import Breaker
from compute.schemas.enums import ErrorCategory
from compute.schemas.evaluation import EvaluationRequest, EvaluationResponse, HealthStatus, VisionProvider
from compute.settings import Settings

__all__ = ["Evaluator"]

_log = logging.getLogger(__name__)
_MAX_TOKENS = 4000
_REFUSALS = frozenset({ErrorCategory.CONTENT_POLICY, ErrorCategory.INVALID_INPUT})
_WORDS = {
    ErrorCategory.CONTENT_POLICY: "The model refused to look at this image.",
    ErrorCategory.INVALID_INPUT: "The model did not take this image.",
    ErrorCategory.PROVIDER_TIMEOUT: "The model did not answer in time.",
}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """An answer to the caller, and whether the model refused rather than failed."""

    response: EvaluationResponse
    refused: bool = False


class Evaluator:
    """The evaluations of one process. Use it within one event loop."""

    def __init__(self, settings: Settings, database: Database, calls: Callable[[Owner], JobCalls]) -> None:
        self._settings = settings
        self._database = database
        self._calls = calls
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        most = settings.evaluation_concurrency
        self._capacity = Capacity(
            most,
            busy="Too many images are being evaluated at the moment; try again later.",
            waiting=most,
            seconds=settings.evaluation_timeout_seconds,
        )

    def turn(self, key: str) -> asyncio.Lock:
        """What requests with this key hold while they are evaluated, one after another."""
        return self._turns.setdefault(key, asyncio.Lock())

    def model(self, provider: VisionProvider | None) -> VisionModel:
        """The model that would be asked.

        Raises:
            InvalidInput: a setting is missing; names it.
        """
        return VisionModel.of(self._settings, provider, field="provider")

    async def evaluate(
        self,
        request: EvaluationRequest,
        model: VisionModel,
        load: Callable[[], Awaitable[ChatImage]],
        *,
        name: str | None = None,
    ) -> EvaluationResponse:
        """Ask `model` about the image that `load` brings. Cancelled, a question that was sent is followed to its end.
        What was asked under a `name` is not asked again under it, by whatever process: its answer is waited for.

        A model that refuses, fails, is late, or says something else than it was asked for, is a response without
        success.

        Raises:
            Unavailable: the model is not asked for a while, or asks for patience itself; nothing was paid.
            Overloaded: too much is being evaluated.
            InvalidInput, TooLarge: by `load`.
        """
        began = time.perf_counter()
        async with self._capacity.taken():
            seconds = self._settings.evaluation_timeout_seconds - (time.perf_counter() - began)
            outcome = await self._outcome(request, model, load, f"evaluation/{name or uuid4()}", seconds)
        took = time.perf_counter() - began
        await self._count(model.vendor.name, outcome, took)
        return outcome.response.model_copy(update={"evaluation_time_ms": round(took * 1000, 1)})

    async def health(self, provider: VisionProvider | None) -> HealthStatus:
        """How evaluations by a vendor, by default the one that would be asked, have gone."""
        try:
            model = self.model(provider)
        except InvalidInput:
            vendors = [provider] if provider else [*VisionProvider]
            async with self._database.transaction() as session:
                return health_of(await counts_of(session, vendors), Breaker.CLOSED, set_up=False)
        async with self._database.transaction() as session:
            counts = await counts_of(session, [model.vendor.name])
            state = await state_of(session, model.account)
        return health_of(counts, state.breaker, set_up=True)

    async def _outcome(
        self,
        request: EvaluationRequest,
        model: VisionModel,
        load: Callable[[], Awaitable[ChatImage]],
        part: str,
        seconds: float,
    ) -> _Outcome:
        began = time.perf_counter()
        image = await self._loaded(load, seconds)
        try:
            return await self._asked(request, model, image, part, seconds - (time.perf_counter() - began))
        except CallUncertain as lost:
            return _failed(f"The model's answer was lost. {lost.detail}")
        except ProviderFailed as failure:
            if not failure.charged:
                raise Unavailable(failure.detail, retry_after=failure.seconds or None) from failure
            said = _WORDS.get(failure.category, "The model could not evaluate this image.")
            return _Outcome(_failure(f"{said} {failure.detail}"), failure.category in _REFUSALS)
        except TaskFailed as closed:
            raise Unavailable(closed.detail) from closed
        except UnusableAnswer as unusable:
            return _failed(str(unusable))

    async def _loaded(self, load: Callable[[], Awaitable[ChatImage]], seconds: float) -> ChatImage:
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                return await load()
        except TimeoutError as late:
            raise Unavailable("The image could not be loaded in time; nothing was asked.") from late

    async def _asked(
        self, request: EvaluationRequest, model: VisionModel, image: ChatImage, part: str, seconds: float
    ) -> _Outcome:
        asked = ChatRequest(
            model=model.name,
            prompt=question(request),
            system=system_text(),
            images=(image,),
            answer_schema=answer_schema(descriptions=request.include_descriptions),
            max_tokens=_MAX_TOKENS,
        )
        calls = self._calls(Owner(model.vendor.name, f"evaluations/{part}"))
        answer = await model.ask(calls, part, asked, seconds=seconds)
        found = json_answer(answer.text, answer.data.get("finish_reason"))
        return _Outcome(read_evaluation(found, request))

    async def _count(self, vendor: str, outcome: _Outcome, seconds: float) -> None:
        """Count an evaluation. It is paid, so its answer is given also if it cannot be counted."""
        succeeded = outcome.response.success
        try:
            async with self._database.transaction() as session:
                await count(session, vendor, succeeded=succeeded, refused=outcome.refused, seconds=seconds)
        except DatabaseAway as error:
            _log.warning("an evaluation was not counted, the database is away: %s", error)


def _failed(error: str) -> _Outcome:
    return _Outcome(_failure(error))


def _failure(error: str) -> EvaluationResponse:
    return EvaluationResponse(success=False, error=error)
