"""Answers of Google's image models, whatever they look like, and their meaning."""

import base64
from typing import Any

import pytest

from compute.errors import ProviderFailed
from compute.providers.calls.outcomes import OutcomeUnknownError
from compute.providers.vendors.google.images import ImageWish, answer_of, nearest_ratio, seed_for
from compute.schemas.enums import ErrorCategory

WISH = ImageWish("gemini-3-pro-image", "a red coat", seed=7)


def inline(data: bytes, **more: Any) -> dict[str, Any]:
    return {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(data).decode()}, **more}


def said(*parts: Any, finish: str = "STOP", **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts)}, "finishReason": finish, **more}], "responseId": "r-1"}


def test_the_last_image_counts_even_among_thoughts() -> None:
    answer = answer_of(said(inline(b"draft", thought=True), {"text": "Here."}, inline(b"final", thought=True)), WISH)
    assert [one.data for one in answer.files] == [b"final"]
    assert (answer.text, answer.vendor_id) == ("Here.", "r-1")
    assert answer.data == {"model": "gemini-3-pro-image", "finish_reason": "STOP", "seed": 7}


def test_thoughts_are_not_what_the_model_says() -> None:
    answer = answer_of(said({"text": "Let me think.", "thought": True}, inline(b"final")), WISH)
    assert answer.text is None


def test_images_and_tokens_are_what_is_paid() -> None:
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 1290, "thoughtsTokenCount": 10}
    answer = answer_of(said(inline(b"final")) | {"usageMetadata": usage}, WISH)
    assert answer.units == {"images": 1.0, "input_tokens": 5.0, "output_tokens": 1300.0}


@pytest.mark.parametrize("odd", ["many", -1, float("inf"), float("nan"), 10**400, [1], None])
def test_odd_counts_are_left_out_and_the_image_is_kept(odd: Any) -> None:
    usage = {"promptTokenCount": odd, "candidatesTokenCount": 1290, "thoughtsTokenCount": odd}
    answer = answer_of(said(inline(b"final")) | {"usageMetadata": usage, "responseId": "r\ud800"}, WISH)
    assert answer.units == {"images": 1.0, "output_tokens": 1290.0}
    assert (answer.vendor_id, [one.data for one in answer.files]) == ("r?", [b"final"])


POLICY, PROVIDER = ErrorCategory.CONTENT_POLICY, ErrorCategory.PROVIDER_ERROR
REASONS = [
    *((word, POLICY) for word in ("IMAGE_SAFETY", "SAFETY", "PROHIBITED_CONTENT", "IMAGE_RECITATION", "SPII")),
    *((word, POLICY) for word in ("BLOCKLIST", "MODEL_ARMOR", "IMAGE_SAFETY_OF_TOMORROW")),
    *((word, PROVIDER) for word in ("NO_IMAGE", "IMAGE_OTHER", "MAX_TOKENS", "STOP", "A_NEW_WORD", "")),
]


@pytest.mark.parametrize(("word", "category"), REASONS)
def test_a_reason_without_image_is_told_in_its_words(word: str, category: ErrorCategory) -> None:
    with pytest.raises(ProviderFailed) as raised:
        answer_of(said({"text": "I would rather not."}, finish=word), WISH)
    assert raised.value.category == category
    assert word in raised.value.detail
    assert "I would rather not." in raised.value.detail
    assert "r-1" in raised.value.detail


@pytest.mark.parametrize("word", ["SAFETY", "OTHER", "A_NEW_WORD"])
def test_a_blocked_prompt_is_a_matter_of_policy(word: str) -> None:
    feedback = {"blockReason": word, "blockReasonMessage": "Not this."}
    with pytest.raises(ProviderFailed, match=f"{word}: Not this.") as raised:
        answer_of({"promptFeedback": feedback}, WISH)
    assert raised.value.category == POLICY


STRANGE: list[dict[str, Any]] = [
    {},
    {"candidates": []},
    {"candidates": "none"},
    {"candidates": [None]},
    {"promptFeedback": "no"},
    {"promptFeedback": {}},
]


@pytest.mark.parametrize("answer", STRANGE, ids=str)
def test_an_answer_of_no_known_form_tells_nothing(answer: dict[str, Any]) -> None:
    with pytest.raises(OutcomeUnknownError):
        answer_of(answer, WISH)


@pytest.mark.parametrize("content", [None, [], {}, {"parts": None}, {"parts": [None, 3, {"inlineData": 5}]}], ids=str)
def test_strange_content_is_no_image(content: Any) -> None:
    with pytest.raises(ProviderFailed):
        answer_of({"candidates": [{"content": content}]}, WISH)


def test_an_image_that_is_cut_short_may_have_been_paid() -> None:
    with pytest.raises(OutcomeUnknownError, match="cut short"):
        answer_of(said({"inlineData": {"mimeType": "image/png", "data": "no base64!"}}), WISH)


@pytest.mark.parametrize(
    ("size", "ratio"),
    [((1024, 1024), "1:1"), ((832, 1216), "2:3"), ((1920, 1080), "16:9"), ((4000, 100), "21:9"), ((9, 5000), "9:16")],
)
def test_the_nearest_ratio_is_taken(size: tuple[int, int], ratio: str) -> None:
    assert nearest_ratio(size) == ratio


def test_seeds_of_runs_differ_and_fit_the_model() -> None:
    seeds = {seed_for(2**63 - 1 + index, run) for index in range(4) for run in range(1, 5)}
    assert len(seeds) == 16
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seed_for(7, 1) == 7
