"""Edits images with the models of this cluster, on the worker that runs the task."""

import asyncio

from PIL import Image

from compute.errors import ProviderFailed
from compute.imaging.change import with_change
from compute.imaging.resize import at_size
from compute.providers.editing.editor import EditRequest
from compute.worker.context import RunContext, Share
from compute.worker.protocol import GenerateRequest, Role

__all__ = ["LocalEditor"]

_SIDE = 1024
_MULTIPLE = 16
_STEPS = 28
_EDIT_GUIDANCE = 2.5
_DRAW_GUIDANCE = 3.5
_DRAW_STRENGTH = 0.3
_SILENT: Share = (0.0, 0.0)
"""One edit of many: progress is what the refiner reports."""


class LocalEditor:
    """Implements `ImageEditor` on a worker that holds its device, without paying anybody.

    A model for instructions (role `edit`) is used where the queue has one. Otherwise the base model draws from the
    image (role `draw`) and reads the instruction as a description; it cannot look at references. Models generate at
    about one megapixel, whatever resolution is asked for: a larger image gets their change, and keeps its own fine
    detail.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._role: Role = "edit" if "edit" in context.roles else "draw"
        # A run generates one image at a time.
        self._turn = asyncio.Lock()

    @property
    def model(self) -> str:
        return self._context.model_name(self._role)

    async def edit(self, request: EditRequest) -> Image.Image:
        if request.references and self._role == "draw":
            raise ProviderFailed(
                "The workers of this queue have no model that looks at references (edit).", hopeless=True
            )
        async with self._turn:
            size = self._context.own_size(_size_of(request.image.size))
            start = await self._context.compute(lambda: at_size(request.image, size))
            generated: Image.Image = await self._context.generate(
                _generation(request, start, self._role), share=_SILENT
            )
        if size[0] >= request.image.width and size[1] >= request.image.height:
            return generated
        return await self._context.compute(lambda: with_change(request.image, start, generated))


def _size_of(size: tuple[int, int]) -> tuple[int, int]:
    """The size at which the models generate: on their grid, with a longer side of a tile."""
    scale = _SIDE / max(size)
    width, height = (max(_MULTIPLE, round(side * scale / _MULTIPLE) * _MULTIPLE) for side in size)
    return width, height


def _generation(request: EditRequest, start: Image.Image, role: Role) -> GenerateRequest:
    edits = role == "edit"
    return GenerateRequest(
        prompt=request.instruction,
        width=start.width,
        height=start.height,
        steps=_STEPS,
        guidance_scale=_EDIT_GUIDANCE if edits else _DRAW_GUIDANCE,
        seed=request.seed,
        image=start,
        references=request.references,
        strength=1.0 if edits else request.strength or _DRAW_STRENGTH,
        role=role,
    )
