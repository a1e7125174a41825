"""Refusals of vendors: in errors, in answers with 200, and in the middle of a stream."""

from dataclasses import dataclass

import pytest

from compute.errors import ProviderFailed
from compute.schemas.enums import ErrorCategory
from tests.providers.chat.vendors import CHATS, Chat, StandInOfChat
from tests.providers.standins.anthropic import Anthropic
from tests.providers.standins.exchange import Reply, Trouble
from tests.providers.standins.faults import RetryAfter, broken_stream, rate_limited, refused
from tests.providers.standins.gemini import Gemini, Outcome
from tests.providers.standins.openai import OpenAI
from tests.providers.standins.texts import Completion

OPENAI, ANTHROPIC, GEMINI, OLLAMA = CHATS
every_chat = pytest.mark.parametrize("chat", CHATS, ids=str)
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["at-once", "streamed"])


async def refusal_of(chat: Chat, stand_in: StandInOfChat, *, streamed: bool = False) -> ProviderFailed:
    with pytest.raises(ProviderFailed) as refused:
        await chat.ask(stand_in, streamed=streamed)
    return refused.value


@dataclass(frozen=True)
class Meaning:
    category: ErrorCategory = ErrorCategory.PROVIDER_ERROR
    hopeless: bool = False
    charged: bool = True
    seconds: float = 0.0


HOPELESS = Meaning(hopeless=True)
MEANINGS = {
    Trouble.BAD_REQUEST: Meaning(ErrorCategory.INVALID_INPUT),
    Trouble.UNAUTHORIZED: HOPELESS,
    Trouble.NO_MONEY: HOPELESS,
    Trouble.NOT_FOUND: HOPELESS,
    Trouble.POLICY: Meaning(ErrorCategory.CONTENT_POLICY),
    Trouble.RATE_LIMIT: Meaning(charged=False, seconds=5.0),
    Trouble.SERVER: Meaning(),
    Trouble.UNAVAILABLE: Meaning(),
    Trouble.TIMED_OUT: Meaning(ErrorCategory.PROVIDER_TIMEOUT),
    Trouble.OVERLOADED: Meaning(),
}
NOT_OLLAMAS = {Trouble.UNAUTHORIZED, Trouble.NO_MONEY, Trouble.POLICY, Trouble.RATE_LIMIT, Trouble.TIMED_OUT}
REFUSALS = [(chat, one) for chat in CHATS for one in MEANINGS if not (chat is OLLAMA and one in NOT_OLLAMAS)]


@pytest.mark.parametrize(("chat", "trouble"), REFUSALS, ids=str)
@both_ways
async def test_a_refusal_tells_what_may_be_done_next(chat: Chat, trouble: Trouble, streamed: bool) -> None:
    async with chat.make() as stand_in:
        stand_in.faults.on(chat.route(streamed), refused(trouble))
        error = await refusal_of(chat, stand_in, streamed=streamed)
        seconds = 13.0 if chat is GEMINI and trouble is Trouble.RATE_LIMIT else MEANINGS[trouble].seconds
        assert Meaning(error.category, error.hopeless, error.charged, error.seconds) == Meaning(
            MEANINGS[trouble].category, MEANINGS[trouble].hopeless, MEANINGS[trouble].charged, seconds
        )
        assert stand_in.submits == 1


@pytest.mark.parametrize(("chat", "trouble"), [(one, two) for one, two in REFUSALS if one is not GEMINI], ids=str)
async def test_a_refusal_is_in_the_vendors_words_with_its_id(chat: Chat, trouble: Trouble) -> None:
    async with chat.make() as stand_in:
        stand_in.faults.on(chat.route(False), refused(trouble, "These are its words."))
        error = await refusal_of(chat, stand_in)
        assert "These are its words." in error.detail
        assert not stand_in.id_header or "(request req_" in error.detail


@pytest.mark.parametrize("chat", [OPENAI, ANTHROPIC], ids=str)
@pytest.mark.parametrize(
    ("seconds", "form", "read"),
    [
        (7, RetryAfter.SECONDS, 7.0),
        (1.5, RetryAfter.MILLISECONDS, 1.5),
        (7200, RetryAfter.SECONDS, 3600.0),
        (0, RetryAfter.NONE, 5.0),
    ],
)
async def test_a_crowded_vendor_says_when_to_come_again(
    chat: Chat, seconds: float, form: RetryAfter, read: float
) -> None:
    async with chat.make() as stand_in:
        stand_in.faults.on(chat.route(False), rate_limited(seconds, form))
        error = await refusal_of(chat, stand_in)
        assert (error.seconds, error.charged, error.hopeless) == (read, False, False)


@pytest.mark.parametrize("chat", [OPENAI, ANTHROPIC], ids=str)
async def test_a_crowded_vendor_says_it_as_a_date(chat: Chat) -> None:
    async with chat.make() as stand_in:
        stand_in.faults.on(chat.route(False), rate_limited(600, RetryAfter.DATE))
        assert 0 < (await refusal_of(chat, stand_in)).seconds <= 600


@every_chat
@both_ways
async def test_a_model_that_there_is_not_is_hopeless(chat: Chat, streamed: bool) -> None:
    async with chat.make() as stand_in:
        request = chat.request()
        unknown = type(request)("nobodys-model", request.prompt, seconds=request.seconds)
        with pytest.raises(ProviderFailed) as told:
            await chat.ask(stand_in, unknown, streamed=streamed)
        assert told.value.hopeless
        assert chat is OPENAI or "model" in told.value.detail


@pytest.mark.parametrize("chat", [OPENAI, ANTHROPIC, GEMINI], ids=str)
@both_ways
async def test_a_refusal_with_200_is_one_of_content(chat: Chat, streamed: bool) -> None:
    async with chat.make() as stand_in:
        chat.will(stand_in, refuses=True)
        error = await refusal_of(chat, stand_in, streamed=streamed)
        assert error.category is ErrorCategory.CONTENT_POLICY
        assert not error.blames
        assert ("SAFETY" if chat is GEMINI else "I can't help with that.") in error.detail


@both_ways
async def test_openais_filter_is_a_refusal_of_content(openai: OpenAI, streamed: bool) -> None:
    openai.completions.append(Completion("half of it", stop="content_filter"))
    assert (await refusal_of(OPENAI, openai, streamed=streamed)).category is ErrorCategory.CONTENT_POLICY


async def test_anthropics_empty_account_may_be_told_with_400(anthropic: Anthropic) -> None:
    words = "Your credit balance is too low to access the Anthropic API."
    anthropic.faults.on("messages", refused(Trouble.BAD_REQUEST, words))
    error = await refusal_of(ANTHROPIC, anthropic)
    assert (error.category, error.hopeless) == (ErrorCategory.PROVIDER_ERROR, True)


@both_ways
@pytest.mark.parametrize("word", ["SAFETY", "OTHER", "MODEL_ARMOR", "A_WORD_OF_NEXT_YEAR"])
async def test_a_question_that_gemini_blocks(gemini: Gemini, word: str, streamed: bool) -> None:
    gemini.outcomes.append(Outcome(blocked=word))
    error = await refusal_of(GEMINI, gemini, streamed=streamed)
    assert error.category is ErrorCategory.CONTENT_POLICY
    assert word in error.detail


@both_ways
@pytest.mark.parametrize(
    ("word", "category"),
    [
        ("RECITATION", ErrorCategory.CONTENT_POLICY),
        ("SPII", ErrorCategory.CONTENT_POLICY),
        ("SAFETY_OF_NEXT_YEAR", ErrorCategory.CONTENT_POLICY),
        ("MALFORMED_RESPONSE", ErrorCategory.PROVIDER_ERROR),
        ("CONTINUATION", ErrorCategory.PROVIDER_ERROR),
        ("A_WORD_OF_NEXT_YEAR", ErrorCategory.PROVIDER_ERROR),
    ],
)
async def test_geminis_words_for_no_answer(gemini: Gemini, word: str, category: ErrorCategory, streamed: bool) -> None:
    gemini.outcomes.append(Outcome(finish=word, text=""))
    error = await refusal_of(GEMINI, gemini, streamed=streamed)
    assert error.category is category
    assert word in error.detail
    assert gemini.submits == 1


async def test_a_word_of_geminis_that_is_no_word_is_told_as_it_is(gemini: Gemini) -> None:
    gemini.outcomes.append(Outcome(finish=["OTHER"], text=""))  # type: ignore[arg-type]
    assert "OTHER" in (await refusal_of(GEMINI, gemini)).detail


@every_chat
@both_ways
async def test_an_end_that_nobody_knows_keeps_the_answer(chat: Chat, streamed: bool) -> None:
    async with chat.make() as stand_in:
        if isinstance(stand_in, Gemini):
            stand_in.outcomes.append(Outcome(finish="next_year", text="It is red."))
        else:
            stand_in.completions.append(Completion("It is red.", stop="next_year"))
        answer = await chat.ask(stand_in, streamed=streamed)
        assert (answer.text, answer.data["finish_reason"]) == ("It is red.", "next_year")


@every_chat
async def test_an_error_in_a_stream_is_a_refusal(chat: Chat) -> None:
    async with chat.make() as stand_in:
        stand_in.faults.on(chat.route(True), broken_stream(after=2))
        error = await refusal_of(chat, stand_in, streamed=True)
        assert (error.category, error.hopeless, error.charged) == (ErrorCategory.PROVIDER_ERROR, False, True)
        assert {"ollama": "busy"}.get(chat.name, "verloaded") in error.detail


class _LimitedAnthropic(Anthropic):
    def error(self, trouble: Trouble, message: str = "") -> Reply:
        return super().error(Trouble.RATE_LIMIT if trouble is Trouble.OVERLOADED else trouble, message)


class _PoorOpenAI(OpenAI):
    def error(self, trouble: Trouble, message: str = "", param: str | None = None) -> Reply:
        return super().error(Trouble.NO_MONEY if trouble is Trouble.OVERLOADED else trouble, message, param)


async def test_a_limit_in_anthropics_stream_is_not_charged() -> None:
    async with _LimitedAnthropic() as stand_in:
        stand_in.faults.on("messages", broken_stream(after=1))
        error = await refusal_of(ANTHROPIC, stand_in, streamed=True)
        assert (error.charged, error.seconds) == (False, 5.0)


async def test_an_empty_account_in_openais_stream_is_hopeless() -> None:
    async with _PoorOpenAI() as stand_in:
        stand_in.faults.on("chat", broken_stream(after=1))
        assert (await refusal_of(OPENAI, stand_in, streamed=True)).hopeless
