"""Evaluation of an image by a vision model: what is asked, what was found, and how well the model has done lately."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, Field

from compute.schemas.rules.strict import JsonBody
from compute.schemas.rules.text import VISIBLE_OR_BLANK

__all__ = [
    "AnatomyIssue",
    "EvaluationRequest",
    "EvaluationResponse",
    "Framing",
    "Gender",
    "HealthStatus",
    "ViewAngle",
    "VisionProvider",
]

MAX_INSTRUCTIONS = 4000
"""Characters."""


class _Spoken(StrEnum):
    """Words that are accepted in any case, with spaces or hyphens for underscores, and under other names."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        word = "_".join(value.replace("-", " ").replace("_", " ").lower().split())
        return cls.__members__.get(_OTHER_NAMES.get(cls.__name__, {}).get(word, word).upper())


class VisionProvider(_Spoken):
    """A vendor of vision models. Any case is accepted."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    OLLAMA = "ollama"


class Framing(_Spoken):
    """How much of a person an image shows. Any case is accepted, and spaces or hyphens for underscores."""

    FULL_BODY = "full_body"
    THREE_QUARTER_BODY = "three_quarter_body"
    HALF_BODY = "half_body"
    LOWER_BODY = "lower_body"
    HEAD_AND_SHOULDERS = "head_and_shoulders"
    CLOSE_UP = "close_up"
    DETAIL = "detail"
    WIDE = "wide"
    PRODUCT = "product"


class ViewAngle(_Spoken):
    """The side from which an image shows its subject. Any case is accepted, and spaces or hyphens for underscores."""

    FRONT = "front"
    THREE_QUARTER_FRONT = "three_quarter_front"
    SIDE = "side"
    THREE_QUARTER_BACK = "three_quarter_back"
    BACK = "back"
    TOP = "top"
    BOTTOM = "bottom"


class Gender(_Spoken):
    """How a person appears; OTHER where it is neither, or people of both are shown. Any case is accepted."""

    FEMALE = "FEMALE"
    MALE = "MALE"
    OTHER = "OTHER"


class AnatomyIssue(_Spoken):
    """What is wrong with a body. Any case is accepted, and spaces or hyphens for underscores."""

    EXTRA_LIMBS = "extra_limbs"
    MISSING_LIMBS = "missing_limbs"
    DISCONNECTED_LIMBS = "disconnected_limbs"
    EXTRA_FINGERS = "extra_fingers"
    MISSING_FINGERS = "missing_fingers"
    FUSED_FINGERS = "fused_fingers"
    DEFORMED_HANDS = "deformed_hands"
    DEFORMED_FEET = "deformed_feet"
    DEFORMED_FACE = "deformed_face"
    MISALIGNED_EYES = "misaligned_eyes"
    DUPLICATED_FEATURES = "duplicated_features"
    DISTORTED_PROPORTIONS = "distorted_proportions"
    IMPOSSIBLE_POSE = "impossible_pose"
    MERGED_BODIES = "merged_bodies"
    OTHER = "other"


_OTHER_NAMES: Mapping[str, Mapping[str, str]] = {
    Framing.__name__: {
        "full_shot": "full_body",
        "three_quarter": "three_quarter_body",
        "upper_body": "half_body",
        "medium": "half_body",
        "medium_shot": "half_body",
        "headshot": "head_and_shoulders",
        "portrait": "head_and_shoulders",
        "closeup": "close_up",
        "extreme_close_up": "detail",
        "wide_shot": "wide",
    },
    ViewAngle.__name__: {
        "frontal": "front",
        "three_quarter": "three_quarter_front",
        "profile": "side",
        "left": "side",
        "right": "side",
        "rear": "back",
        "overhead": "top",
        "low": "bottom",
    },
}
Confidence = Annotated[float, Field(ge=0.0, le=1.0)]


class EvaluationRequest(JsonBody):
    """An image to evaluate, and the shot that it should be. Exactly one of `image_data` and `image_url` is required."""

    image_data: str | None = Field(
        default=None, description="Base64-encoded image data (data:image/jpeg;base64,... format)."
    )
    image_url: str | None = Field(
        default=None, description="URL to image file; a link of this API, or the path of a stored image, too."
    )
    expected_framing: Framing = Field(description="Expected framing type for the image.")
    expected_view_angle: ViewAngle = Field(description="Expected view angle for the image.")
    expected_gender: Gender | None = Field(
        default=Gender.FEMALE,
        description="Expected gender for the image. It counts for `matches_expected` only where it is sent and is not "
        "null.",
    )
    custom_instructions: Annotated[str, VISIBLE_OR_BLANK] | None = Field(
        default=None,
        max_length=MAX_INSTRUCTIONS,
        description="Custom instructions for the evaluation: what to look for.",
    )
    include_descriptions: bool = Field(default=False, description="Include garment and subject descriptions.")


class EvaluationResponse(BaseModel):
    """What a vision model found in an image. Null is what it did not say, or did not say in a usable form; about bodies
    also where nobody is shown."""

    success: bool = Field(description="Whether the evaluation was successful.")
    detected_framing: Framing | None = Field(default=None, description="Detected framing type.")
    detected_view_angle: ViewAngle | None = Field(default=None, description="Detected view angle.")
    shot_type_confidence: Confidence | None = Field(
        default=None, description="Confidence score for shot type detection: framing and view angle."
    )
    matches_expected: bool | None = Field(default=None, description="Whether detected shot type matches expected.")
    human_detected: bool | None = Field(default=None, description="Whether humans were detected in the image.")
    number_of_people: int | None = Field(default=None, description="Number of people detected.")
    human_presence_confidence: Confidence | None = Field(
        default=None, description="Confidence score for human detection."
    )
    anatomy_correct: bool | None = Field(default=None, description="Whether anatomy appears correct.")
    anatomy_issues: list[AnatomyIssue] | None = Field(default=None, description="List of detected anatomy issues.")
    anatomy_confidence: Confidence | None = Field(default=None, description="Confidence score for anatomy analysis.")
    detected_gender: Gender | None = Field(default=None, description="Detected gender.")
    gender_confidence: Confidence | None = Field(default=None, description="Confidence score for gender detection.")
    garment_description: str | None = Field(default=None, description="Description of garments in the image.")
    subject_description: str | None = Field(default=None, description="Description of the subject.")
    scene_description: str | None = Field(default=None, description="Description of the scene.")
    collage_detected: bool | None = Field(default=None, description="Whether a collage or stitched image was detected.")
    error: str | None = Field(default=None, description="Error message if evaluation failed.")
    evaluation_time_ms: float | None = Field(default=None, description="Time taken for evaluation in milliseconds.")
    confidence_summary: Confidence | None = Field(
        default=None, description="Average confidence across all evaluations that this image got."
    )


class HealthStatus(BaseModel):
    """How well evaluations have gone."""

    is_healthy: bool = Field(
        description="Whether the evaluator is healthy: it is set up, its circuit breaker is not open, and its health "
        "score is at least 0.5."
    )
    health_score: Confidence = Field(
        description="Health score (0.0-1.0): the share of the evaluations of this hour and the one before in which the "
        "model answered as it was asked; 1 without any. Images that it refuses do not count. 0 while the circuit "
        "breaker is open, at most 0.5 while it is half open."
    )
    total_evaluations: int = Field(description="Total number of evaluations performed.")
    success_rate: Confidence = Field(description="Success rate (0.0-1.0) of all of them; 1 without any.")
    average_response_time: float = Field(description="Average response time in seconds, of all of them.")
    circuit_breaker_state: str = Field(description="Circuit breaker state: CLOSED, OPEN or HALF_OPEN.")
