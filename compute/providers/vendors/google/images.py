"""Google's models for images: one paid `generateContent` request, and what its answer means."""

import asyncio
import base64
import binascii
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

from compute.errors import ProviderFailed
from compute.providers.calls.answers import counts_of, mapping, mappings, plain_id, total
from compute.providers.calls.call import Collected
from compute.providers.calls.job import JobCalls
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import Answer, AnswerFile, OutcomeUnknownError
from compute.providers.calls.sdk import no_word_of
from compute.providers.vendors.google.account import account, endpoint, forbids
from compute.schemas.enums import ErrorCategory
from compute.settings import Settings

__all__ = [
    "AspectRatio",
    "ImageSize",
    "ImageWish",
    "SentImage",
    "answer_of",
    "make_image",
    "nearest_ratio",
    "seed_for",
    "shape_of",
]

AspectRatio = Literal["1:1", "3:2", "2:3", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"]
ImageSize = Literal["1K", "2K", "4K"]

_SECONDS = 300.0
"""An image of 4K takes two minutes and more."""
_SEEDS = 2**31
_STRIDE = 1_000_003
"""Between the seeds of two runs, so that no image of a later run repeats one of an earlier."""
_WORDS_SHOWN = 400
_OF_URLS = str.maketrans("-_", "+/")
"""Bytes in the JSON of Google's services may be written in either alphabet of base64."""


@dataclass(frozen=True, slots=True)
class SentImage:
    """An encoded image, as the model gets it, and its content type."""

    data: bytes = field(repr=False)
    content_type: str


@dataclass(frozen=True, slots=True)
class ImageWish:
    """One image that is wanted. `images` are what the prompt refers to, in their order."""

    model: str
    prompt: str
    images: tuple[SentImage, ...] = ()
    aspect_ratio: str | None = None
    image_size: str | None = None
    system: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int = 0


async def make_image(calls: JobCalls, settings: Settings, part: str, wish: ImageWish, *, user: str) -> Collected:
    """Have one image made, as a paid call; `user` is the provider that messages name. The answer's data have `model`,
    `finish_reason` and `seed`.

    Raises:
        ProviderFailed, CallUncertain: as `JobCalls`.
    """
    send = partial(_send, settings, wish, user)
    return await calls.direct(part, account(settings, user=user), endpoint(settings, wish.model), send)


def seed_for(seed: int, run: int) -> int:
    """The seed of a task's n-th run, in the model's range: what made no image will not make one again."""
    return (seed + (run - 1) * _STRIDE) % _SEEDS


def nearest_ratio(size: tuple[int, int]) -> AspectRatio:
    """The aspect ratio the models know that is nearest to that of (width, height)."""
    shape = math.log(size[0] / size[1])
    ratios: tuple[AspectRatio, ...] = get_args(AspectRatio)
    return min(ratios, key=lambda ratio: abs(math.log(shape_of(ratio)) - shape))


def shape_of(ratio: str) -> float:
    """Width by height of an aspect ratio such as `3:2`."""
    width, height = ratio.split(":")
    return int(width) / int(height)


async def _send(settings: Settings, wish: ImageWish, user: str, log: list[ServiceRequest]) -> Answer:
    from google.genai import types

    from compute.providers.vendors.google.wire import generate

    parts = [types.Part.from_text(text=wish.prompt)]
    parts += [types.Part.from_bytes(data=one.data, mime_type=one.content_type) for one in wish.images]
    shape = {"aspect_ratio": wish.aspect_ratio, "image_size": _size_for(wish)}
    config = types.GenerateContentConfig(
        response_modalities=["TEXT", "IMAGE"],
        image_config=types.ImageConfig(**shape) if any(shape.values()) else None,
        system_instruction=wish.system,
        temperature=wish.temperature,
        top_p=wish.top_p,
        seed=wish.seed,
    )
    contents = [types.Content(role="user", parts=parts)]
    seconds = min(_SECONDS, settings.provider_wait_seconds)
    with no_word_of(account(settings, user=user).key):
        said = await generate(settings, wish.model, contents, config, seconds=seconds, log=log, user=user)
        return await asyncio.to_thread(answer_of, said, wish)


def _size_for(wish: ImageWish) -> str | None:
    """The size to ask for. The first generation of the models has one only, and takes no word for it."""
    first = wish.model.startswith("gemini-2.5-")
    return None if first and wish.image_size == "1K" else wish.image_size


def answer_of(said: Mapping[str, Any], wish: ImageWish) -> Answer:
    """The image in an answer: the last one, for a model that thinks shows its drafts before, and the image itself may
    stand among its thoughts.

    Raises:
        ProviderFailed: there is none; the message says in the model's words why.
        OutcomeUnknownError: the answer has a form that is not known.
    """
    candidates = mappings(said.get("candidates"))
    images = [part["inlineData"] for part in _parts(candidates) if _is_image(part.get("inlineData"))]
    if not images:
        raise _without_image(said, candidates)
    try:
        data = base64.b64decode(images[-1]["data"].translate(_OF_URLS), validate=True)
    except (binascii.Error, ValueError) as error:
        raise OutcomeUnknownError(f"The image in its answer is cut short.{_id_of(said)}") from error
    usage = mapping(said.get("usageMetadata"))
    return Answer(
        files=(AnswerFile(data=data),),
        text=_text_of(candidates) or None,
        data={
            "model": str(said.get("modelVersion") or wish.model),
            "finish_reason": _reason_of(candidates),
            "seed": wish.seed,
        },
        units=counts_of(
            {
                "images": 1.0,
                "input_tokens": usage.get("promptTokenCount"),
                "output_tokens": total(usage.get(name) for name in ("candidatesTokenCount", "thoughtsTokenCount")),
            }
        ),
        vendor_id=plain_id(said.get("responseId")),
    )


def _without_image(
    said: Mapping[str, Any], candidates: list[Mapping[str, Any]]
) -> ProviderFailed | OutcomeUnknownError:
    feedback = mapping(said.get("promptFeedback"))
    if blocked := feedback.get("blockReason"):
        told = f": {feedback['blockReasonMessage']}" if feedback.get("blockReasonMessage") else ""
        return ProviderFailed(
            f"Google refused the prompt ({blocked}{told}).{_id_of(said)}", category=ErrorCategory.CONTENT_POLICY
        )
    if not candidates:
        return OutcomeUnknownError("Its answer has neither an image nor a reason why there is none.")
    reason = _reason_of(candidates)
    words = candidates[0].get("finishMessage") or _text_of(candidates)
    told = f": {str(words)[:_WORDS_SHOWN]}" if words else ""
    return ProviderFailed(
        f"Google made no image ({reason or 'no reason given'}{told}).{_id_of(said)}",
        category=ErrorCategory.CONTENT_POLICY if forbids(reason) else ErrorCategory.PROVIDER_ERROR,
    )


def _id_of(said: Mapping[str, Any]) -> str:
    told = plain_id(said.get("responseId"))
    return f" Request {told}." if told else ""


def _reason_of(candidates: list[Mapping[str, Any]]) -> str:
    return str(candidates[0].get("finishReason") or "")


def _text_of(candidates: list[Mapping[str, Any]]) -> str:
    return "".join(
        str(part["text"])
        for part in _parts(candidates)
        if isinstance(part.get("text"), str) and not part.get("thought")
    )


def _parts(candidates: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for candidate in candidates:
        yield from mappings(mapping(candidate.get("content")).get("parts"))


def _is_image(inline: Any) -> bool:
    return (
        isinstance(inline, Mapping)
        and isinstance(inline.get("data"), str)
        and str(inline.get("mimeType") or "image/").startswith("image/")
    )
