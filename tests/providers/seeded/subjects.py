"""Small tasks for every provider elsewhere, and the stand-in of the vendor that each of them is done by."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from compute.schemas.enums import ErrorCategory, ProviderType
from tests.pictures import full_figure, portrait
from tests.providers.chat.vendors import CHATS, Chat
from tests.providers.harness import Desk
from tests.providers.queued.specs import stored
from tests.providers.standins.exchange import Trouble
from tests.providers.standins.fal import Fal
from tests.providers.standins.fashn import Fashn
from tests.providers.standins.gemini import Gemini
from tests.providers.standins.magnific import Magnific
from tests.providers.standins.server import StandIn

__all__ = ["SUBJECTS", "Subject", "Vendor"]

Category = ErrorCategory
P = ProviderType


@dataclass(frozen=True)
class Vendor:
    """A vendor as the faults see it.

    Attributes:
        routes: The stand-in's routes for the points of a call.
        states: Of a job, in its vendor's words; none for a vendor that answers at once.
        failures: Words for why a job fails, and what they mean.
        ends: Last states of jobs that fail without a word, and what they mean.
        policy: The category of its refusal of content.
        own_words: Troubles that are known by its words for them.
        lacks: Troubles that it does not have.
        cancels: A job can be stopped.
        streams, draws: Its answer is streamed, or has a picture in base64.
    """

    name: str
    make: Callable[[], StandIn]
    settings: Callable[[Any], dict[str, Any]]
    routes: Mapping[str, str]
    states: tuple[str, ...] = ()
    failures: Mapping[str, ErrorCategory] = field(default_factory=dict)
    ends: Mapping[str, ErrorCategory] = field(default_factory=dict)
    policy: ErrorCategory = Category.CONTENT_POLICY
    own_words: frozenset[Trouble] = frozenset()
    lacks: frozenset[Trouble] = frozenset()
    streams: bool = False
    draws: bool = False
    free: bool = False
    cancels: bool = False


@dataclass(frozen=True)
class Subject:
    """A task at a provider. `parts`: it needs several calls, which are under way together."""

    vendor: Vendor
    provider: ProviderType
    task_type: str
    spec: Callable[[Desk], Awaitable[dict[str, Any]]]
    config: Mapping[str, Any] = field(default_factory=dict)
    parts: bool = False
    weight: float = 1.0

    def __str__(self) -> str:
        return f"{self.provider} {self.task_type} at {self.vendor.name}"


FAL = Vendor(
    "fal",
    Fal,
    lambda fal: {"fal_key": fal.key, "fal_queue_url": fal.url("queue")},
    {"submit": "submit", "status": "status", "result": "result", "file": "file"},
    ("IN_QUEUE", "IN_PROGRESS", "COMPLETED"),
    {
        "content_policy_violation": Category.CONTENT_POLICY,
        "image_too_large": Category.INVALID_INPUT,
        "image_load_error": Category.INVALID_INPUT,
        "file_download_error": Category.INVALID_INPUT,
        "no_media_generated": Category.PROVIDER_ERROR,
        "downstream_service_error": Category.PROVIDER_ERROR,
        "generation_timeout": Category.PROVIDER_TIMEOUT,
        "request_timeout": Category.PROVIDER_TIMEOUT,
        "startup_timeout": Category.PROVIDER_TIMEOUT,
        "runner_scheduling_failure": Category.PROVIDER_ERROR,
        "runner_connection_timeout": Category.PROVIDER_TIMEOUT,
        "runner_disconnected": Category.PROVIDER_ERROR,
        "runner_incomplete_response": Category.PROVIDER_ERROR,
        "internal_error": Category.PROVIDER_ERROR,
        "bad_request": Category.INVALID_INPUT,
    },
    cancels=True,
)
FASHN = Vendor(
    "fashn",
    Fashn,
    lambda fashn: {"fashn_api_key": fashn.key, "fashn_base_url": fashn.url() + "/v1"},
    {"submit": "run", "status": "status", "file": "file"},
    ("in_queue", "processing", "completed"),
    {
        "ImageLoadError": Category.INVALID_INPUT,
        "InputValidationError": Category.INVALID_INPUT,
        "PoseError": Category.INVALID_INPUT,
        "ContentModerationError": Category.CONTENT_POLICY,
        "PipelineError": Category.PROVIDER_ERROR,
        "A word of next year": Category.PROVIDER_ERROR,
    },
    {"canceled": Category.PROVIDER_ERROR, "time_out": Category.PROVIDER_TIMEOUT},
    policy=Category.INVALID_INPUT,
)
MAGNIFIC = Vendor(
    "magnific",
    Magnific,
    lambda magnific: {"magnific_api_key": magnific.key, "magnific_base_url": magnific.url()},
    {"submit": "submit", "status": "task", "file": "file"},
    ("CREATED", "IN_PROGRESS", "COMPLETED"),
    {"any": Category.PROVIDER_ERROR},
    {"FAILED": Category.PROVIDER_ERROR},
    policy=Category.INVALID_INPUT,
)
GEMINI = Vendor(
    "gemini",
    Gemini,
    lambda gemini: {"gemini_api_key": gemini.key, "gemini_base_url": gemini.url()},
    {"submit": "generate"},
    own_words=frozenset({Trouble.POLICY, Trouble.NO_MONEY}),
    draws=True,
)


def _chat(chat: Chat) -> Subject:
    lacks = {Trouble.UNAUTHORIZED, Trouble.NO_MONEY, Trouble.POLICY, Trouble.RATE_LIMIT, Trouble.TIMED_OUT}
    vendor = Vendor(
        f"{chat.name}'s chat",
        chat.make,
        lambda stand_in: chat.settings(stand_in) | {"provider_wait_seconds": 1.0},
        {"submit": chat.route(True)},
        lacks=frozenset(lacks if chat.free else ()),
        own_words=frozenset({Trouble.POLICY, Trouble.NO_MONEY}),
        streams=True,
        free=chat.free,
    )

    async def spec(desk: Desk) -> dict[str, Any]:
        return {"prompt": "Which colour?"}

    return Subject(
        vendor, P.AI_CORE, "LLM_INTERACTION", spec, {"ai_provider": chat.name, "model": chat.model}, weight=0.6
    )


def _of(task_type: str, **more: Any) -> Callable[[Desk], Awaitable[dict[str, Any]]]:
    async def spec(desk: Desk) -> dict[str, Any]:
        return await stored(desk, task_type, **more)

    return spec


async def _face(desk: Desk) -> dict[str, Any]:
    return await stored(desk, "FACE_ENHANCER") | {"input_image_path": await desk.store(portrait((256, 256)))}


async def _garment(desk: Desk) -> dict[str, Any]:
    figure = await desk.store(full_figure())
    return await stored(desk, "EDITING", prompt="the shirt") | {"base_image_path": figure}


SUBJECTS = [
    Subject(FAL, P.FAL_STANDARD, "GENERATION", _of("GENERATION"), weight=2.0),
    Subject(FAL, P.FAL_STANDARD, "EDITING", _of("EDITING", reference_images=1)),
    Subject(FAL, P.FAL_STANDARD, "REFINE", _of("REFINE")),
    Subject(FAL, P.FAL_STANDARD, "BACKGROUND_REMOVAL", _of("BACKGROUND_REMOVAL", images=2), parts=True),
    Subject(FAL, P.FAL_SHOOTIFY_REFINER, "REFINE", _of("REFINE")),
    Subject(FAL, P.FAL_GARMENT_FIXER, "EDITING", _of("EDITING", reference_images=1, garment=True)),
    Subject(FASHN, P.FASHN_STANDARD, "EDITING", _of("EDITING"), weight=2.0),
    Subject(FASHN, P.FASHN_STANDARD, "BACKGROUND_REMOVAL", _of("BACKGROUND_REMOVAL", images=2), parts=True),
    Subject(MAGNIFIC, P.FREEPIK_MAGNIFIC, "REFINE", _of("REFINE"), weight=1.5),
    Subject(
        MAGNIFIC,
        P.FREEPIK_MAGNIFIC_PRECISION,
        "REFINE",
        _of("REFINE", size=(192, 160), width=384, height=320),
        weight=0.5,
    ),
    Subject(GEMINI, P.VERTEX, "GENERATION", _of("GENERATION"), weight=2.0),
    Subject(GEMINI, P.VERTEX, "EDITING", _of("EDITING")),
    Subject(GEMINI, P.NANO_BANANA_UPSCALER, "REFINE", _of("REFINE"), {"ssim_threshold": 0}, weight=0.5),
    Subject(
        GEMINI,
        P.SARTIQ_ULTIMATE_REFINER,
        "REFINE",
        _of("REFINE"),
        {"ssim_threshold": 0, "num_tiles": 1},
        parts=True,
        weight=0.2,
    ),
    Subject(GEMINI, P.SARTIQ_ULTIMATE_FACE_FIXER, "FACE_ENHANCER", _face, {"ssim_threshold": 0}, weight=0.1),
    Subject(GEMINI, P.SARTIQ_ULTIMATE_GARMENT_FIXER, "EDITING", _garment, {"ssim_threshold": 0}, weight=0.1),
    *map(_chat, CHATS),
]
