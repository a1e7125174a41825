"""What a task asks of a provider elsewhere: its `spec` in terms that every provider understands.

A task type makes one of these of its `spec` (`TaskKind.operation`); a provider turns it into calls. Images are paths in
the object store, sizes are in pixels. `app` is the request's `fal_app_id`, for providers that run apps.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "Animate",
    "CallApp",
    "Converse",
    "Draw",
    "Edit",
    "EnhanceFaces",
    "Operation",
    "Picture",
    "Refine",
    "RemoveBackground",
]


@dataclass(frozen=True, slots=True)
class Picture:
    """A stored image, the request's field that named it, and what it shows (`garment`) if the request says so."""

    path: str
    field: str
    shows: str | None = None


@dataclass(frozen=True, slots=True)
class Draw:
    """Make `count` images from a text, the n-th with `seed` + n; with `image`, start from that.

    Attributes:
        loras: The request's fields that name LoRAs, which only this cluster has.
        strength: How much of `image` may change, in (0, 1].
    """

    prompt: str
    width: int
    height: int
    seed: int
    count: int = 1
    negative_prompt: str | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    image: Picture | None = None
    strength: float | None = None
    loras: tuple[str, ...] = ()
    app: str | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """Change an image as `prompt` says; where `mask` is white, if there is one. The result is `width` x `height`."""

    prompt: str
    image: Picture
    width: int
    height: int
    seed: int
    references: tuple[Picture, ...] = ()
    mask: Picture | None = None
    strength: float | None = None
    steps: int | None = None
    app: str | None = None


@dataclass(frozen=True, slots=True)
class Refine:
    """Enlarge an image to `width` x `height`, and regenerate its detail.

    Attributes:
        base_size: Width and height of `image`, if they are known.
        size_field: The request's field that decides about the size.
        factor: How many times larger it gets.
        denoise: How much is regenerated, in [0, 1].
        face_prompt: What its faces should look like, if they are to be regenerated.
    """

    image: Picture
    width: int
    height: int
    factor: float
    seed: int
    prompt: str | None = None
    steps: int | None = None
    denoise: float | None = None
    face_prompt: str | None = None
    face_denoise: float | None = None
    base_size: tuple[int, int] | None = None
    size_field: str = "upscale_factor"
    app: str | None = None


@dataclass(frozen=True, slots=True)
class EnhanceFaces:
    """Regenerate the faces of an image and nothing else. `strength` in [0, 1]."""

    image: Picture
    strength: float
    seed: int
    prompt: str | None = None
    preserve_identity: bool = True


@dataclass(frozen=True, slots=True)
class RemoveBackground:
    """Make everything but the subject of each image transparent, and store it as `png` or `webp`."""

    images: tuple[Picture, ...]
    output_format: Literal["png", "webp"] = "png"


@dataclass(frozen=True, slots=True)
class Animate:
    """Make a clip of `seconds` that begins with an image."""

    image: Picture
    prompt: str
    width: int
    height: int
    seconds: float
    fps: int
    seed: int
    negative_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class CallApp:
    """Call an app of a provider with the arguments that the request gives it."""

    app: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Converse:
    """Answer a prompt about images, in the form of a JSON Schema if `answer_schema` is one.

    Attributes:
        max_tokens, temperature: None for the provider's own.
    """

    prompt: str
    system: str | None = None
    images: tuple[Picture, ...] = ()
    answer_schema: dict[str, Any] | None = None
    max_tokens: int | None = None
    temperature: float | None = None


Operation = Draw | Edit | Refine | EnhanceFaces | RemoveBackground | Animate | CallApp | Converse
