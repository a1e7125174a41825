"""Prepares the images of a training for the network, as Ray tasks stage by stage.

    downloading    addresses, stored paths or one archive  →  training/<id>/raw/…
    validating     decodes the files; unsuitable ones are rejected by name
    transforming   crops, background removal, scaling to buckets, mirroring  →  training/<id>/dataset/images/<n>.png
    captioning     chooses each image's caption, or asks a vision model for it
    encoding       VAE and text encoders, once for all steps  →  training/<id>/cache/…

Stages pass paths, not images: everything is in the object store, so that tasks run on any node, and a job that
takes over finds the finished parts.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import ray
from ray.exceptions import RayTaskError

from compute.errors import InvalidInput
from compute.schemas.training import CaptioningStrategy
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.storage.patience import until_back
from compute.training.cache import CachedImage, Manifest
from compute.training.dataset.captions import caption_for
from compute.training.dataset.images import Rejected
from compute.training.preprocessing import stages
from compute.training.preprocessing.captioning import vision_captions
from compute.training.preprocessing.stages import DatasetImage, RawFile
from compute.training.spec import DataSpec, TrainingSpec

__all__ = ["RayResources", "StageListener", "preprocess"]

T = TypeVar("T")

_CHUNK = 16
"""Number of images in one task."""
_AT_ONCE = 32
"""Tasks submitted to Ray at a time; it queues those without a free core."""
_AT_ONCE_UNCOUNTED = 2
"""The same if tasks reserve no core, since Ray would start them all."""
_DONE = "dataset/manifest.json"
_CACHE_DONE = "manifest.json"


class StageListener(Protocol):
    """Receives the events of the preprocessing."""

    def stage(self, name: str, processed: int, total: int) -> None:
        """A stage has processed `processed` of `total`."""
        ...

    def rejected(self, files: Sequence[Rejected]) -> None:
        """Files were rejected."""
        ...

    def log(self, line: str) -> None:
        """A line for the training's log."""
        ...


@dataclass(frozen=True, slots=True)
class RayResources:
    """Resources that Ray reserves for one task; GPUs only for the encoders, if the training has one."""

    cpus: float = 0.0
    gpus: float = 0.0


async def preprocess(
    spec: TrainingSpec, settings: Settings, objects: ObjectStore, resources: RayResources, listener: StageListener
) -> Manifest:
    """Prepare the data set and fill the cache, unless an earlier job has done so; return the cache's manifest.

    Raises:
        InvalidInput: no image is left, the archive is refused, or no vision model is set up for captions.
        ProviderFailed: the vision model cannot be used.
        StorageFailed: the object store, or this machine's disk, failed.
    """
    found = await until_back(partial(_found, spec, objects), who="a training")
    if found is not None:
        listener.rejected([Rejected(**one) for one in found["rejected"]])
        return Manifest(tuple(CachedImage(**one) for one in found["pictures"]), tuple(found["captions"]))
    run = _Run(spec, resources, listener)
    raws = await run.download()
    raws = await run.validate(raws)
    images = await run.transform(raws)
    manifest = run.caption(await run.describe(images, settings, objects))
    await run.encode(images, manifest)
    record = asdict(manifest) | {"rejected": [asdict(one) for one in run.all_rejected]}
    await until_back(partial(_finish, spec, objects, record), who="a training")
    return manifest


async def _found(spec: TrainingSpec, objects: ObjectStore) -> dict[str, Any] | None:
    """The result of an earlier job, if it is complete."""
    done = f"{spec.folder}/{_DONE}"
    # A completed training has no cache any more; if it is run again by hand, the cache is made anew.
    if await objects.stat(done) is None or await objects.stat(f"{spec.folder}/cache/{_CACHE_DONE}") is None:
        return None
    found: dict[str, Any] = json.loads(await objects.get(done))
    return found


async def _finish(spec: TrainingSpec, objects: ObjectStore, record: dict[str, Any]) -> None:
    await objects.put(f"{spec.folder}/{_DONE}", json.dumps(record).encode(), "application/json")
    await objects.delete_prefix(f"{spec.folder}/raw/")


class _Run:
    """One run of all stages."""

    def __init__(self, spec: TrainingSpec, resources: RayResources, listener: StageListener) -> None:
        self._spec = spec
        self._resources = resources
        self._listener = listener
        self.all_rejected: list[Rejected] = []

    async def download(self) -> list[RawFile]:
        data = self._spec.data
        if data.archive is not None:
            self._listener.stage("downloading", 0, 1)
            raws, rejected = await _result(self._task("downloading", stages.fetch_archive)(self._spec))
            self._listener.stage("downloading", 1, 1)
            self._reject(rejected)
            return list(raws)
        numbered = list(enumerate(data.images))
        found = await self._all("downloading", stages.fetch_images, _chunks(numbered), len(numbered))
        return self._kept(found)

    async def validate(self, raws: Sequence[RawFile]) -> list[RawFile]:
        found = await self._all("validating", stages.validate, _chunks(raws), len(raws))
        return self._kept(found)

    async def transform(self, raws: Sequence[RawFile]) -> list[DatasetImage]:
        found = await self._all("transforming", stages.transform, _chunks(raws), len(raws))
        return self._kept(found)

    async def describe(
        self, images: Sequence[DatasetImage], settings: Settings, objects: ObjectStore
    ) -> Sequence[DatasetImage]:
        """The images with the texts of a vision model, where one is asked for them."""
        if self._spec.data.captioning is not CaptioningStrategy.VISION:
            return images
        self._listener.stage("captioning", 0, len(images))
        texts = await vision_captions(
            self._spec,
            images,
            objects,
            settings,
            progress=lambda done: self._listener.stage("captioning", done, len(images)),
            log=self._listener.log,
        )
        return [replace(image, text=texts.get(image.path, image.text)) for image in images]

    def caption(self, images: Sequence[DatasetImage]) -> Manifest:
        spec, data = self._spec, self._spec.data
        numbers: dict[str, int] = {}
        cached = []
        for image in images:
            text = _caption(spec, data, image)
            number = numbers.setdefault(text, len(numbers))
            cached.append(CachedImage(image.name, image.width, image.height, number))
        for prompt in spec.samples.prompts:
            numbers.setdefault(prompt, len(numbers))
        if data.captioning is not CaptioningStrategy.VISION:
            self._listener.stage("captioning", len(images), len(images))
        return Manifest(tuple(cached), (*numbers, ""))

    async def encode(self, images: Sequence[DatasetImage], manifest: Manifest) -> None:
        """Encode in a process of its own, whose end frees the device memory of VAE and text encoders."""
        total = len(manifest.captions) + len(images)
        actor = ray.remote(stages.EncoderActor)
        name = f"Encoder of {self._spec.output_name}, job {ray.get_runtime_context().get_job_id()}"
        task = f"encoding images of {self._spec.output_name}"
        resources = {"num_cpus": self._resources.cpus, "num_gpus": self._resources.gpus}
        encoder = actor.options(name=name, **resources).remote(self._spec)
        processed = 0
        try:
            work = [
                *((encoder.prompts, chunk) for chunk in _chunks(list(enumerate(manifest.captions)))),
                *((encoder.images, chunk) for chunk in _chunks(list(enumerate(images)))),
            ]
            self._listener.stage("encoding", 0, total)
            for number, (method, chunk) in enumerate(work):
                await _result(method.options(name=task).remote(number, chunk))
                processed += len(chunk)
                self._listener.stage("encoding", processed, total)
            await _result(encoder.manifest.options(name=task).remote(manifest))
        finally:
            ray.kill(encoder)

    async def _all(
        self,
        name: str,
        function: Callable[..., Any],
        chunks: Iterator[Sequence[Any]],
        total: int,
    ) -> list[Any]:
        """Run a stage's tasks, some at a time, and return their results in order."""
        task, results, processed = self._task(name, function), [], 0
        self._listener.stage(name, 0, total)
        waiting: list[tuple[Any, int]] = []
        at_once = _AT_ONCE if self._resources.cpus else _AT_ONCE_UNCOUNTED
        for chunk in chunks:
            waiting.append((task(self._spec, chunk), len(chunk)))
            if len(waiting) >= at_once:
                reference, count = waiting.pop(0)
                results += await _result(reference)
                processed += count
                self._listener.stage(name, processed, total)
        for reference, count in waiting:
            results += await _result(reference)
            processed += count
            self._listener.stage(name, processed, total)
        return results

    def _task(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        remote: Callable[..., Any] = (
            ray.remote(function)
            .options(name=f"{stage} images of {self._spec.output_name}", num_cpus=self._resources.cpus, max_retries=3)
            .remote
        )
        return remote

    def _kept(self, found: Sequence[T | Rejected]) -> list[T]:
        self._reject([one for one in found if isinstance(one, Rejected)])
        kept = [one for one in found if not isinstance(one, Rejected)]
        if not kept:
            reasons = "; ".join(f"{one.file}: {one.reason}" for one in self.all_rejected[:3])
            raise InvalidInput(f"No image is left to train on. {reasons}", field=_field(self._spec.data))
        return kept

    def _reject(self, files: Sequence[Rejected]) -> None:
        if files:
            self.all_rejected += files
            self._listener.rejected(files)


async def _result(reference: Any) -> Any:
    """Return the result of a task; its exception is raised as it was."""
    try:
        return await reference
    except RayTaskError as error:
        raise error.cause from None


def _caption(spec: TrainingSpec, data: DataSpec, image: DatasetImage) -> str:
    return caption_for(data.captioning, trigger_word=spec.trigger_word, file=image.name, text=image.text)


def _field(data: DataSpec) -> str:
    return "source_images" if data.archive is None else "dataset_url"


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
