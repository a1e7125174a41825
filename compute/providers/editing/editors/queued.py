"""Edits images with vendors that have a queue: fal and FASHN."""

import base64
from collections.abc import Callable
from functools import partial
from typing import Any

from PIL import Image

from compute.errors import ProviderFailed
from compute.providers.calls.job import JobCalls
from compute.providers.calls.protocol import QueueProtocol
from compute.providers.editing.editor import EditRequest
from compute.providers.editing.editors.encoded import encoded_for_vendor
from compute.providers.editing.editors.frame import Frame, told
from compute.providers.vendors.fal.arguments import shown
from compute.providers.vendors.fal.provider import app_for
from compute.providers.vendors.fal.queue import FalQueue, fal_account
from compute.providers.vendors.fashn import FashnQueue, edit_inputs, fashn_account
from compute.providers.vendors.google.images import seed_for
from compute.settings import Settings
from compute.worker.context import RunContext

__all__ = ["QueueEditor", "fal_editor", "fashn_editor"]

Body = Callable[[EditRequest, list[str]], tuple[str, Any]]
"""Chooses the model for an edit and its images (data URIs), and makes the paid request's body."""


class QueueEditor:
    """Implements `ImageEditor` over a vendor's queue."""

    def __init__(self, context: RunContext, calls: JobCalls, protocol: QueueProtocol, model: str, body: Body) -> None:
        self._context = context
        self._calls = calls
        self._protocol = protocol
        self._model = model
        self._body = body

    @property
    def model(self) -> str:
        return self._model

    async def edit(self, request: EditRequest) -> Image.Image:
        compute = self._context.compute
        frame = Frame.around(request.image.size)
        framed = await compute(partial(frame.filled, request.image))
        uris = [await compute(partial(_uri, one)) for one in (framed, *request.references)]
        self._model, body = self._body(request, uris)
        collected = await self._calls.queued(request.part, self._protocol, body)
        if not collected.files:
            raise ProviderFailed(f"{self._protocol.account.vendor} made no image.")
        made = await self._context.reload(collected.files[0].path)
        return await compute(partial(frame.emptied, made))


def fal_editor(context: RunContext, calls: JobCalls, settings: Settings, *, user: str) -> QueueEditor:
    """An editor over the app that the settings name for edits."""
    app = app_for(settings, "edit", None, "provider_type")

    def body(request: EditRequest, uris: list[str]) -> tuple[str, dict[str, Any]]:
        arguments = {"prompt": told(request), "num_images": 1, "output_format": "png", **shown(app, uris)}
        arguments["seed"] = seed_for(request.seed, context.job.fence)
        # Other apps have no such choice.
        return app, arguments | ({"resolution": request.resolution} if request.resolution and "banana" in app else {})

    protocol = FalQueue(fal_account(settings, user=user), settings.fal_queue_url, app)
    return QueueEditor(context, calls, protocol, app, body)


def fashn_editor(context: RunContext, calls: JobCalls, settings: Settings, *, user: str) -> QueueEditor:
    """An editor over FASHN's models: the one for try-ons for an edit with a reference."""

    def body(request: EditRequest, uris: list[str]) -> tuple[str, dict[str, Any]]:
        seed = seed_for(request.seed, context.job.fence)
        model, inputs = edit_inputs(settings, uris, told(request), seed)
        return model, {"model_name": model, "inputs": inputs}

    protocol = FashnQueue(fashn_account(settings, user=user), settings.fashn_base_url)
    return QueueEditor(context, calls, protocol, settings.fashn_edit_model, body)


def _uri(image: Image.Image) -> str:
    data, content_type = encoded_for_vendor(image)
    return f"data:{content_type};base64,{base64.b64encode(data).decode()}"
