"""Captions of a training's images by a vision model."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

from compute.db.session import Database
from compute.errors import InvalidInput, ProviderFailed
from compute.evaluation.captions import Caption, Captioner
from compute.evaluation.vision import VisionModel
from compute.outbound.client import GuardedClient
from compute.providers.ledger.opening import open_calls
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.storage.patience import until_back
from compute.storage.together import for_each
from compute.training.preprocessing.stages import DatasetImage
from compute.training.spec import TrainingSpec

__all__ = ["vision_captions"]


async def vision_captions(
    spec: TrainingSpec,
    images: Sequence[DatasetImage],
    objects: ObjectStore,
    settings: Settings,
    *,
    progress: Callable[[int], None],
    log: Callable[[str], None],
) -> dict[str, str]:
    """The captions by the images' paths; `progress` hears how many were asked for. An image that the model does not
    caption is left out, and `log` says why. An earlier job's captions are taken from the ledger.

    Raises:
        InvalidInput: no vision model is set up, or no database, which keeps the ledger.
        ProviderFailed: the model cannot be used, or captioned not a single image.
    """
    field = "preprocessing_captioning_strategy"
    model = VisionModel.of(settings, field=field)
    if settings.database_url is None:
        raise InvalidInput("Set DATABASE_URL for captions by a vision model: it keeps what was paid.", field=field)
    async with AsyncExitStack() as stack:
        database = Database.of(settings)
        stack.push_async_callback(database.close)
        client = await stack.enter_async_context(
            GuardedClient(settings.media_allowed_hosts, settings.media_timeout_seconds)
        )
        calls = await stack.enter_async_context(open_calls(settings, database, objects, client))
        captioner = Captioner(model, calls.of, spec.folder, prompt=spec.data.captioning_prompt)
        captions = await for_each(images, _Captioning(captioner, objects, progress).caption)
    for image, caption in zip(images, captions, strict=True):
        if caption.text is None:
            log(f"captioned {image.name} without the model: {caption.reason}")
    found = {
        image.path: caption.text for image, caption in zip(images, captions, strict=True) if caption.text is not None
    }
    if images and not found:
        raise ProviderFailed(f"{model.vendor.name} captioned none of {len(images)} images. {captions[0].reason}")
    return found


class _Captioning:
    def __init__(self, captioner: Captioner, objects: ObjectStore, progress: Callable[[int], None]) -> None:
        self._captioner = captioner
        self._objects = objects
        self._progress = progress
        self._done = 0

    async def caption(self, image: DatasetImage) -> Caption:
        data = await until_back(partial(self._objects.get, image.path), who="a training")
        caption = await self._captioner.caption(data)
        self._done += 1
        self._progress(self._done)
        return caption
