"""The pictures of a training, from what the request names to what the network reads, as Ray tasks stage by stage.

    downloading    addresses, stored paths or one archive  →  training/<id>/raw/…
    validating     is it a picture that we accept; what is not is rejected by name
    transforming   crops, background removal, scaling to buckets, mirroring  →  training/<id>/dataset/images/<n>.png
    captioning     what each picture says
    encoding       VAE and text encoders, once for all steps  →  training/<id>/cache/…

Stages hand over paths, not pictures: the object store has everything, so that tasks run on any node, and a job that
takes over finds what is done.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import ray
from ray.exceptions import RayTaskError

from compute.errors import InvalidInput
from compute.storage.base import ObjectStore
from compute.storage.patience import until_back
from compute.training.cache import CachedPicture, Manifest
from compute.training.dataset.captions import caption_for
from compute.training.dataset.images import Rejected
from compute.training.preprocessing import stages
from compute.training.preprocessing.stages import Picture, Raw
from compute.training.spec import DataSpec, TrainingSpec

__all__ = ["Resources", "StageListener", "preprocess"]

T = TypeVar("T")

_CHUNK = 16
"""Pictures of one task."""
_AT_ONCE = 32
"""Tasks that are handed to Ray at a time; it queues what has no core yet."""
_AT_ONCE_UNCOUNTED = 2
"""The same where a task reserves no core, so that Ray would start them all."""
_DONE = "dataset/manifest.json"
_CACHE_DONE = "manifest.json"


class StageListener(Protocol):
    """What is told of the preprocessing."""

    def stage(self, name: str, processed: int, total: int) -> None:
        """A stage has done `processed` of `total`."""
        ...

    def rejected(self, files: Sequence[Rejected]) -> None:
        """Files that are not trained on."""
        ...


@dataclass(frozen=True, slots=True)
class Resources:
    """What Ray sets aside for one task, and for the encoders, which need a device where the training has one."""

    cpus: float = 0.0
    gpus: float = 0.0


async def preprocess(
    spec: TrainingSpec, objects: ObjectStore, resources: Resources, listener: StageListener
) -> Manifest:
    """Bring the data set into the cache, or find it there.

    Raises:
        InvalidInput: nothing is left to train on, or the archive is refused.
        StorageFailed: the object store, or this machine's disk, failed.
    """
    found = await until_back(partial(_found, spec, objects), who="a training")
    if found is not None:
        listener.rejected([Rejected(**one) for one in found["rejected"]])
        return Manifest(tuple(CachedPicture(**one) for one in found["pictures"]), tuple(found["captions"]))
    run = _Run(spec, resources, listener)
    raws = await run.download()
    raws = await run.validate(raws)
    pictures = await run.transform(raws)
    manifest = run.caption(pictures)
    await run.encode(pictures, manifest)
    record = asdict(manifest) | {"rejected": [asdict(one) for one in run.all_rejected]}
    await until_back(partial(_finish, spec, objects, record), who="a training")
    return manifest


async def _found(spec: TrainingSpec, objects: ObjectStore) -> dict[str, Any] | None:
    """What an earlier job has prepared, if it is all there."""
    done = f"{spec.folder}/{_DONE}"
    # A training that was completed has no cache any more; who runs it again by hand makes it anew.
    if await objects.stat(done) is None or await objects.stat(f"{spec.folder}/cache/{_CACHE_DONE}") is None:
        return None
    found: dict[str, Any] = json.loads(await objects.get(done))
    return found


async def _finish(spec: TrainingSpec, objects: ObjectStore, record: dict[str, Any]) -> None:
    await objects.put(f"{spec.folder}/{_DONE}", json.dumps(record).encode(), "application/json")
    await objects.delete_prefix(f"{spec.folder}/raw/")


class _Run:
    """One pass through the stages."""

    def __init__(self, spec: TrainingSpec, resources: Resources, listener: StageListener) -> None:
        self._spec = spec
        self._resources = resources
        self._listener = listener
        self.all_rejected: list[Rejected] = []

    async def download(self) -> list[Raw]:
        data = self._spec.data
        if data.archive is not None:
            self._listener.stage("downloading", 0, 1)
            raws, rejected = await _result(self._task(stages.fetch_archive)(self._spec))
            self._listener.stage("downloading", 1, 1)
            self._reject(rejected)
            return list(raws)
        numbered = list(enumerate(data.images))
        found = await self._all("downloading", stages.fetch_pictures, _chunks(numbered), len(numbered))
        return self._kept(found)

    async def validate(self, raws: Sequence[Raw]) -> list[Raw]:
        found = await self._all("validating", stages.validate, _chunks(raws), len(raws))
        return self._kept(found)

    async def transform(self, raws: Sequence[Raw]) -> list[Picture]:
        found = await self._all("transforming", stages.transform, _chunks(raws), len(raws))
        return self._kept(found)

    def caption(self, pictures: Sequence[Picture]) -> Manifest:
        spec, data = self._spec, self._spec.data
        numbers: dict[str, int] = {}
        cached = []
        for picture in pictures:
            text = _caption(spec, data, picture)
            number = numbers.setdefault(text, len(numbers))
            cached.append(CachedPicture(picture.name, picture.width, picture.height, number))
        for prompt in spec.samples.prompts:
            numbers.setdefault(prompt, len(numbers))
        self._listener.stage("captioning", len(pictures), len(pictures))
        return Manifest(tuple(cached), (*numbers, ""))

    async def encode(self, pictures: Sequence[Picture], manifest: Manifest) -> None:
        """In a process of their own, which takes VAE and text encoders from the device with it when it ends."""
        total = len(manifest.captions) + len(pictures)
        actor = ray.remote(stages.EncoderActor)
        encoder = actor.options(num_cpus=self._resources.cpus, num_gpus=self._resources.gpus).remote(self._spec)
        processed = 0
        try:
            work = [
                *((encoder.prompts, chunk) for chunk in _chunks(list(enumerate(manifest.captions)))),
                *((encoder.pictures, chunk) for chunk in _chunks(list(enumerate(pictures)))),
            ]
            self._listener.stage("encoding", 0, total)
            for number, (method, chunk) in enumerate(work):
                await _result(method.remote(number, chunk))
                processed += len(chunk)
                self._listener.stage("encoding", processed, total)
            await _result(encoder.manifest.remote(manifest))
        finally:
            ray.kill(encoder)

    async def _all(
        self,
        name: str,
        function: Callable[..., Any],
        chunks: Iterator[Sequence[Any]],
        total: int,
    ) -> list[Any]:
        """Run a stage's tasks, some at a time, and return what they found in order."""
        task, results, processed = self._task(function), [], 0
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

    def _task(self, function: Callable[..., Any]) -> Callable[..., Any]:
        remote: Callable[..., Any] = ray.remote(function).options(num_cpus=self._resources.cpus, max_retries=3).remote
        return remote

    def _kept(self, found: Sequence[T | Rejected]) -> list[T]:
        self._reject([one for one in found if isinstance(one, Rejected)])
        kept = [one for one in found if not isinstance(one, Rejected)]
        if not kept:
            reasons = "; ".join(f"{one.file}: {one.reason}" for one in self.all_rejected[:3])
            raise InvalidInput(f"There is no picture to train on. {reasons}", field=_field(self._spec.data))
        return kept

    def _reject(self, files: Sequence[Rejected]) -> None:
        if files:
            self.all_rejected += files
            self._listener.rejected(files)


async def _result(reference: Any) -> Any:
    """What a task returns; what it raises is raised as it was."""
    try:
        return await reference
    except RayTaskError as error:
        raise error.cause from None


def _caption(spec: TrainingSpec, data: DataSpec, picture: Picture) -> str:
    return caption_for(data.captioning, trigger_word=spec.trigger_word, file=picture.name, text=picture.text)


def _field(data: DataSpec) -> str:
    return "source_images" if data.archive is None else "dataset_url"


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
