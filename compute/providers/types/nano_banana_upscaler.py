"""NANO_BANANA_UPSCALER: one edit of the whole image by Google's model, at 2K or 4K."""

from functools import partial
from typing import Any, Literal

from PIL import Image
from pydantic import Field

from compute.errors import ProviderFailed
from compute.imaging.resize import Layers, at_size
from compute.providers.base import Assignment, RemoteProvider
from compute.providers.calls.account import Account
from compute.providers.editing.editor import EditRequest
from compute.providers.vendors.google.account import account
from compute.providers.vendors.offers import check_refine, checked_operation
from compute.schemas.enums import ProviderCapability, ProviderType, TaskType
from compute.schemas.rules.strict import JsonBody
from compute.settings import Settings
from compute.tasks.operations import Operation, Refine
from compute.tasks.registry import TaskKind

__all__ = ["NanoBananaUpscaler", "NanoBananaUpscalerConfig"]

_PROMPT = (
    "Make this photograph sharp at a higher resolution. Add only the detail that a better lens would have shown: "
    "threads and weave of the cloth, stitches, skin with pores, single hairs. Nothing is added, removed or moved: "
    "people, faces, garments, letters, logos, colours, light and framing stay exactly as they are."
)
_LONGEST_OF_2K = 2048
_MOST = 4.0
"""Times that it enlarges at most."""


class NanoBananaUpscalerConfig(JsonBody):
    """Settings of NANO_BANANA_UPSCALER."""

    provider_type: Literal["NANO_BANANA_UPSCALER"] = "NANO_BANANA_UPSCALER"
    default_prompt: str | None = Field(
        default=None,
        min_length=1,
        max_length=10_000,
        description="Instruction for the model, instead of the usual one. The task's prompt is added to it.",
    )
    max_retries: int = Field(
        default=3, ge=0, le=10, description="Most further images that are made, and paid, after one that is not alike."
    )
    ssim_threshold: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="Least likeness (SSIM) to the original, at the original's size. 0 accepts every image. If none is "
        "alike enough, the task fails: a fallback provider may do it.",
    )


class NanoBananaUpscaler(RemoteProvider[NanoBananaUpscalerConfig]):
    """NANO_BANANA_UPSCALER. Whoever sets a threshold wants no image below it, so none is returned as if it were one;
    the message of the failure names the scores. A task that is tried again pays for nothing that it has."""

    name = ProviderType.NANO_BANANA_UPSCALER
    config_model = NanoBananaUpscalerConfig
    queue = "vertex"

    def capabilities(self, kind: TaskKind[Any]) -> frozenset[ProviderCapability]:
        return frozenset(_ABILITIES if kind.name is TaskType.REFINE else ())

    def account(self, settings: Settings) -> Account:
        return account(settings, user=self.name)

    def check(self, operation: Operation | None, config: JsonBody, settings: Settings) -> None:
        super().check(operation, config, settings)
        check_refine(self.name, checked_operation(self.name, operation, Refine), most=_MOST)

    async def work(self, assignment: Assignment[NanoBananaUpscalerConfig]) -> None:
        # These load OpenCV, which the ingress does not need.
        from compute.providers.editing.consistency import Limits, edit_until_alike, report
        from compute.providers.editing.editors.vertex import VertexEditor

        operation = checked_operation(self.name, assignment.operation, Refine)
        context, config = assignment.context, assignment.config
        base = await context.load(operation.image.path, field=operation.image.field)
        layers = await context.compute(partial(Layers.of, base))
        size = operation.width, operation.height
        enlarged = await context.compute(partial(layers.resized, size))
        if operation.denoise == 0:
            # Nothing is to be regenerated.
            plain = await context.compute(partial(enlarged.with_colours, enlarged.colours))
            await context.publish(plain, seed=operation.seed)
            return
        editor = VertexEditor(context, assignment.calls, assignment.settings, user=self.name)
        part = await edit_until_alike(
            context,
            editor,
            _request(operation, config, layers.colours),
            Limits(ssim=config.ssim_threshold),
            lambda edited, original: at_size(edited, size),
            retries=config.max_retries,
        )
        context.note(model=editor.model, **report([part]))
        if part.refused is not None:
            raise part.refused
        if part.image is None:
            raise _not_alike(part.ssims, config.ssim_threshold)
        result = await context.compute(partial(enlarged.with_colours, part.image))
        await context.publish(result, seed=operation.seed)


_ABILITIES = frozenset(
    {
        ProviderCapability.UPSCALE_2X,
        ProviderCapability.UPSCALE_4X,
        ProviderCapability.UPSCALE_FLOAT,
        ProviderCapability.OUTPUT_SIZE,
    }
)


def _request(operation: Refine, config: NanoBananaUpscalerConfig, image: Image.Image) -> EditRequest:
    lines = [config.default_prompt or _PROMPT]
    if operation.prompt:
        lines.append(f"The detail should look like this: {operation.prompt}")
    longest = max(operation.width, operation.height)
    return EditRequest(
        "image",
        "\n".join(lines),
        image,
        resolution="2K" if longest <= _LONGEST_OF_2K else "4K",
        seed=operation.seed,
        strength=operation.denoise,
    )


def _not_alike(ssims: list[float], threshold: float) -> ProviderFailed:
    scores = ", ".join(f"{one:.3f}" for one in ssims)
    return ProviderFailed(
        f"None of {len(ssims)} images was alike enough to the original: their SSIM is {scores}, and ssim_threshold is "
        f"{threshold:g}.",
        hopeless=True,
    )
