"""Reads what a vision model has said, which may be anything."""

import json
import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from compute.evaluation.instructions import DESCRIPTIONS, UNKNOWN
from compute.schemas.evaluation import AnatomyIssue, EvaluationRequest, EvaluationResponse, Framing, Gender, ViewAngle

__all__ = ["UnusableAnswer", "clean_text", "json_answer", "read_evaluation"]

WordT = TypeVar("WordT", bound=StrEnum)

_LONGEST_ANSWER = 64 * 1024
"""Characters; a whole answer with descriptions has about two thousand."""
_LONGEST_DESCRIPTION = 4000
_MOST_PEOPLE = 100_000
_MOST_ISSUES = 100
_CUT_OFF = frozenset({"length", "max_tokens", "MAX_TOKENS", "incomplete"})
"""Vendors' words for an answer that reached the limit of tokens."""


class UnusableAnswer(ValueError):
    """The answer as a whole cannot be used; the message is a sentence for the caller."""


def json_answer(text: str | None, finish: object = None) -> dict[str, Any]:
    """The object that an answer consists of. `finish` is the vendor's word for why the answer ended.

    Raises:
        UnusableAnswer: it is not one JSON object, with nothing around it.
    """
    if text is None or not text.strip():
        raise UnusableAnswer("The model's answer is empty.")
    if len(text) > _LONGEST_ANSWER:
        raise UnusableAnswer(f"The model's answer has more than {_LONGEST_ANSWER} characters.")
    try:
        found = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        if isinstance(finish, str) and finish in _CUT_OFF:
            raise UnusableAnswer("The model's answer was cut off at its limit of tokens.") from None
        raise UnusableAnswer("The model's answer is not JSON, or has text around it.") from None
    if not isinstance(found, dict):
        raise UnusableAnswer("The model's answer is not a JSON object.")
    return found


def read_evaluation(answer: Mapping[str, Any], request: EvaluationRequest) -> EvaluationResponse:
    """What an answer says. A part that is missing, of another type, out of its range or in unknown words is null.

    Raises:
        UnusableAnswer: neither a framing, nor a view angle, nor the presence of people can be read from it.
    """
    framing, angle = _word(Framing, answer.get("framing")), _word(ViewAngle, answer.get("view_angle"))
    human = _flag(answer.get("human_detected"))
    says_unknown = UNKNOWN in (answer.get("framing"), answer.get("view_angle"))
    if framing is None and angle is None and human is None and not says_unknown:
        raise UnusableAnswer("The model's answer has none of the parts that it was asked for.")
    found = EvaluationResponse(
        success=True,
        detected_framing=framing,
        detected_view_angle=angle,
        shot_type_confidence=_confidence(answer.get("shot_type_confidence")),
        human_detected=human,
        number_of_people=_count(answer.get("number_of_people")),
        human_presence_confidence=_confidence(answer.get("human_presence_confidence")),
        collage_detected=_flag(answer.get("collage_detected")),
        **(_body(answer) if human is not False else {}),
        **(_descriptions(answer) if request.include_descriptions else {}),
    )
    found.matches_expected = _matches(found, request)
    found.confidence_summary = _summary(found)
    return found


def clean_text(value: object, most: int) -> str | None:
    """A text without control characters and halves of surrogate pairs; None for what is no text, or shows nothing."""
    if not isinstance(value, str):
        return None
    kept = "".join(one for one in value if one in "\n\t" or unicodedata.category(one) not in ("Cc", "Cs"))
    return kept.strip()[:most].rstrip() or None


def _body(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What is said about people, which means nothing where there is none."""
    return {
        "anatomy_correct": _flag(answer.get("anatomy_correct")),
        "anatomy_issues": _issues(answer.get("anatomy_issues")),
        "anatomy_confidence": _confidence(answer.get("anatomy_confidence")),
        "detected_gender": _word(Gender, answer.get("gender")),
        "gender_confidence": _confidence(answer.get("gender_confidence")),
    }


def _descriptions(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: clean_text(answer.get(name), _LONGEST_DESCRIPTION) for name in DESCRIPTIONS}


def _word(words: type[WordT], value: object) -> WordT | None:
    if not isinstance(value, str):
        return None
    try:
        return words(value)
    except ValueError:
        return None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_PEOPLE:
        return None
    return value


def _confidence(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)


def _issues(value: object) -> list[AnatomyIssue] | None:
    """The faults, each once. One in words of the model's own is a fault all the same."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        return None
    found = [_word(AnatomyIssue, one) or AnatomyIssue.OTHER for one in value[:_MOST_ISSUES]]
    return [*dict.fromkeys(found)]


def _matches(found: EvaluationResponse, request: EvaluationRequest) -> bool | None:
    """Whether all that is expected was found; None where what was found does not tell.

    A gender that was not sent is not expected: the default that the contract gives it would have every product
    photograph fail.
    """
    pairs: list[tuple[object, object]] = [
        (request.expected_framing, found.detected_framing),
        (request.expected_view_angle, found.detected_view_angle),
    ]
    if "expected_gender" in request.model_fields_set and request.expected_gender is not None:
        pairs.append((request.expected_gender, found.detected_gender))
    if any(detected is not None and detected != expected for expected, detected in pairs):
        return False
    return None if any(detected is None for _, detected in pairs) else True


def _summary(found: EvaluationResponse) -> float | None:
    """The mean of the confidences that are there."""
    given = (
        found.shot_type_confidence,
        found.human_presence_confidence,
        found.anatomy_confidence,
        found.gender_confidence,
    )
    present = [one for one in given if one is not None]
    return sum(present) / len(present) if present else None
