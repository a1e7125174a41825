"""VERTEX: Google's models draw and edit, over the Gemini API or Vertex."""

from functools import partial
from typing import Any, Literal

from PIL import Image
from pydantic import Field

from compute.imaging.blend import composite, feather, mask_of
from compute.imaging.resize import covering_box, resized
from compute.providers.base import Assignment, RemoteProvider
from compute.providers.calls.account import Account
from compute.providers.calls.call import Collected
from compute.providers.editing.editors.encoded import encoded_for_vendor
from compute.providers.vendors.google.account import account
from compute.providers.vendors.google.images import (
    AspectRatio,
    ImageSize,
    ImageWish,
    SentImage,
    make_image,
    nearest_ratio,
    seed_for,
)
from compute.providers.vendors.offers import checked_operation, refuse_loras
from compute.providers.vendors.queued import all_of
from compute.schemas.enums import ProviderCapability, ProviderType, TaskType
from compute.schemas.rules.strict import JsonBody
from compute.settings import Settings
from compute.tasks.operations import Draw, Edit, Operation, Picture
from compute.tasks.registry import TaskKind
from compute.worker.context import RunContext

__all__ = ["Vertex", "VertexConfig"]

_SYSTEM = (
    "You are the photographer and retoucher of a fashion house. Make photorealistic pictures fit for a catalogue. Keep "
    "every garment true to the pictures that you are given: cut, colour, fabric, pattern, seams, buttons and logos. "
    "Keep people as they are: face, hair, skin, figure and pose. Light falls as in a studio, skin has pores, cloth has "
    "weave, hands have five fingers. Change what you are asked to change and nothing else. Answer with one picture, "
    "without frames, captions or watermarks."
)
_MASK = (
    "The last picture is a mask of the first one: change only what lies under its white parts, and leave everything "
    "under its black parts as it is."
)
_FEATHER = 8
_ABILITIES = {
    TaskType.GENERATION: {
        ProviderCapability.TEXT_TO_IMAGE,
        ProviderCapability.IMAGE_TO_IMAGE,
        ProviderCapability.REFERENCE_IMAGE,
        ProviderCapability.OUTPUT_SIZE,
    },
    TaskType.EDITING: {
        ProviderCapability.IMAGE_EDIT,
        ProviderCapability.INPAINT,
        ProviderCapability.REFERENCE_IMAGE,
        ProviderCapability.OUTPUT_SIZE,
    },
}


class VertexConfig(JsonBody):
    """Settings of VERTEX."""

    provider_type: Literal["VERTEX"] = "VERTEX"
    aspect_ratio: AspectRatio | None = Field(
        default=None,
        description="Aspect ratio that the model draws at: 1:1, 3:2, 2:3, 3:4, 4:3, 4:5, 5:4, 9:16, 16:9 or 21:9. By "
        "default the nearest to the task's width and height. The result has the task's size; what does not fit its "
        "shape is cut off on both sides.",
    )
    image_size: ImageSize = Field(default="1K", description="Size that the model draws at: 1K, 2K or 4K.")
    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Model to use instead of the one that the settings name, such as gemini-3.1-flash-image.",
    )
    system_instructions: str | None = Field(
        default=None,
        max_length=10_000,
        description="System instruction. By default one for the pictures of a fashion house.",
    )
    temperature: float = Field(default=1.0, ge=0, le=2, description="Sampling temperature; higher is more varied.")
    top_p: float = Field(default=0.95, ge=0, le=1, description="Share of the likeliest tokens that are sampled from.")


class Vertex(RemoteProvider[VertexConfig]):
    """VERTEX. Each image is a call of its own.

    Steps and guidance have no meaning for these models and are ignored. A mask is shown to the model as a picture;
    where it is black the result has the pixels of the image, whatever the model did there.
    """

    name = ProviderType.VERTEX
    config_model = VertexConfig
    queue = "vertex"

    def capabilities(self, kind: TaskKind[Any]) -> frozenset[ProviderCapability]:
        return frozenset(_ABILITIES.get(kind.name, ()))

    def account(self, settings: Settings) -> Account:
        return account(settings, user=self.name)

    def check(self, operation: Operation | None, config: JsonBody, settings: Settings) -> None:
        super().check(operation, config, settings)
        checked_operation(self.name, operation, Draw, Edit)
        if isinstance(operation, Draw):
            refuse_loras(self.name, operation)

    async def work(self, assignment: Assignment[VertexConfig]) -> None:
        match assignment.operation:
            case Draw() as operation:
                await _draw(assignment, operation)
            case Edit() as operation:
                await _edit(assignment, operation)


async def _draw(assignment: Assignment[VertexConfig], operation: Draw) -> None:
    images = [operation.image] if operation.image else []
    sent = await _sent(assignment.context, images)
    size = operation.width, operation.height
    made = await all_of(
        [
            _make(assignment, f"image/{index}", _drawing_prompt(operation), sent, size, operation.seed + index)
            for index in range(operation.count)
        ]
    )
    for one in made:
        image = await assignment.context.reload(one.files[0].path)
        result = await assignment.context.compute(partial(resized, image, size))
        await assignment.context.publish(result, seed=one.data["seed"])


async def _edit(assignment: Assignment[VertexConfig], operation: Edit) -> None:
    context, size = assignment.context, (operation.width, operation.height)
    base = await context.load(operation.image.path, field=operation.image.field)
    masks = [operation.mask] if operation.mask else []
    sent = await _sent(context, [operation.image, *operation.references, *masks])
    made = await _make(assignment, "image", _editing_prompt(operation), sent, size, operation.seed)
    image = await context.reload(made.files[0].path)
    mask = await context.load(operation.mask.path, field=operation.mask.field) if operation.mask else None
    result = await context.compute(partial(_finished, base, image, mask, size))
    await context.publish(result, seed=made.data["seed"])


def _finished(base: Image.Image, made: Image.Image, mask: Image.Image | None, size: tuple[int, int]) -> Image.Image:
    """The result at its size; where the mask is black, the pixels of `base`."""
    result = resized(made.convert("RGB"), size)
    if mask is None:
        return result
    fitting = covering_box(base.size, size)
    scaled = mask_of(mask, base.size).resize(size, Image.Resampling.BOX, box=fitting)
    weights = feather(scaled, _FEATHER)
    return composite(resized(base, size), result, weights)


async def _make(
    assignment: Assignment[VertexConfig],
    part: str,
    prompt: str,
    images: tuple[SentImage, ...],
    size: tuple[int, int],
    seed: int,
) -> Collected:
    config, context, settings = assignment.config, assignment.context, assignment.settings
    wish = ImageWish(
        model=config.model or settings.gemini_image_model,
        prompt=prompt,
        images=images,
        aspect_ratio=config.aspect_ratio or nearest_ratio(size),
        image_size=config.image_size,
        system=config.system_instructions or _SYSTEM,
        temperature=config.temperature,
        top_p=config.top_p,
        seed=seed_for(seed, context.job.fence),
    )
    collected = await make_image(assignment.calls, settings, part, wish, user=ProviderType.VERTEX)
    context.note(model=collected.data["model"], provider_request_id=collected.vendor_id)
    return collected


async def _sent(context: RunContext, pictures: list[Picture]) -> tuple[SentImage, ...]:
    sent = []
    for picture in pictures:
        image = await context.load(picture.path, field=picture.field)
        sent.append(SentImage(*await context.compute(partial(encoded_for_vendor, image))))
    return tuple(sent)


def _drawing_prompt(operation: Draw) -> str:
    lines = [operation.prompt]
    if operation.negative_prompt:
        lines.append(f"Avoid: {operation.negative_prompt}")
    if operation.image is not None:
        lines.append(_start(operation.strength))
    return "\n\n".join(lines)


def _start(strength: float | None) -> str:
    if strength is None or strength >= 1:
        return "Start from the picture."
    return f"Start from the picture, and change about {strength:.0%} of what it shows."


def _editing_prompt(operation: Edit) -> str:
    lines = [operation.prompt]
    if operation.strength is not None and operation.strength < 1:
        lines.append(f"Change about {operation.strength:.0%} of what may be changed.")
    if operation.mask is not None:
        lines.append(_MASK)
    return "\n".join(lines)
