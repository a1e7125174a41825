"""Edits images with Google's models."""

from functools import partial

from PIL import Image

from compute.providers.calls.job import JobCalls
from compute.providers.editing.editor import EditRequest
from compute.providers.editing.editors.encoded import encoded_for_vendor
from compute.providers.editing.editors.frame import Frame, told
from compute.providers.vendors.google.images import ImageWish, SentImage, make_image, seed_for
from compute.settings import Settings
from compute.worker.context import RunContext

__all__ = ["VertexEditor"]

_TEMPERATURE = 0.4
"""An edit that must stay where it is needs little chance."""


class VertexEditor:
    """Implements `ImageEditor`, in a frame that the models can draw."""

    def __init__(self, context: RunContext, calls: JobCalls, settings: Settings, *, user: str) -> None:
        self._context = context
        self._calls = calls
        self._settings = settings
        self._user = user

    @property
    def model(self) -> str:
        return self._settings.gemini_image_model

    async def edit(self, request: EditRequest) -> Image.Image:
        compute = self._context.compute
        frame = Frame.around(request.image.size)
        framed = await compute(partial(frame.filled, request.image))
        images = [SentImage(*await compute(partial(encoded_for_vendor, one))) for one in (framed, *request.references)]
        wish = ImageWish(
            model=self.model,
            prompt=told(request),
            images=tuple(images),
            aspect_ratio=frame.ratio,
            image_size=request.resolution,
            temperature=_TEMPERATURE,
            seed=seed_for(request.seed, self._context.job.fence),
        )
        collected = await make_image(self._calls, self._settings, request.part, wish, user=self._user)
        made = await self._context.reload(collected.files[0].path)
        return await compute(partial(frame.emptied, made))
