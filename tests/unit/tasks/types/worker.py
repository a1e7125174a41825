"""A worker without Ray and without a database: a task type's own prepare, run and public fields on a local store."""

import uuid
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from PIL import Image

from compute.db.tables import Task
from compute.deployments.context import LocalWorkerContext
from compute.errors import InvalidInput
from compute.media.codec import encode
from compute.settings import Settings
from compute.storage.local import LocalStore
from compute.tasks.registry import InputImage, TaskKind
from compute.worker.protocol import Artifact, Done, Job, Progress, Role, StagedModel, WorkEvent


@dataclass
class TestWorker:
    """A `LocalWorkerContext` and what it stands on."""

    __test__ = False

    worker: LocalWorkerContext
    store: LocalStore
    settings: Settings


@dataclass
class StoredInputs:
    """The `Inputs` of requests that name stored images only."""

    store: LocalStore
    sizes: Mapping[str, tuple[int, int]]
    roles: frozenset[Role] = frozenset({"draw"})
    max_pixels: int = 8192 * 8192
    size_multiple: int = 16
    model_names: tuple[str, ...] = ("tiny-flux",)
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def image(self, source: str, *, field: str) -> InputImage:
        self.asked.append((source, field))
        if source not in self.sizes:
            raise InvalidInput(f"There is no stored image {source}.", field=field)
        return InputImage(source, *self.sizes[source])

    async def lora(self, path: str, *, field: str) -> str:
        return f"loras/{path}"


@dataclass
class Outcome:
    """What one run made of one request."""

    spec: dict[str, Any]
    artifacts: list[Artifact]
    images: list[Image.Image]
    files: list[bytes]
    metadata: dict[str, Any]
    events: list[WorkEvent]
    public: dict[str, Any]
    """The type's own public fields, as the API shows them."""


def make_worker(tmp_path: Path, model: StagedModel | None = None, *, slots: int = 1) -> TestWorker:
    settings = Settings(home=tmp_path)
    store = LocalStore(settings.storage_root)
    return TestWorker(LocalWorkerContext(settings, store, model, "worker#1", slots=slots), store, settings)


async def prepare(
    kind: TaskKind[Any],
    request: Mapping[str, Any],
    worker: TestWorker,
    files: Mapping[str, Image.Image],
    *,
    roles: frozenset[Role] = frozenset({"draw"}),
    **inputs: Any,
) -> dict[str, Any]:
    """The spec of a request as the API would make it; raises what the request model and `prepare` raise."""
    for path, image in files.items():
        await worker.store.put(path, encode(image, "png"), "image/png")
    sizes = {path: image.size for path, image in files.items()}
    checked = kind.create_model.model_validate(dict(request))
    return await kind.prepare(checked, StoredInputs(worker.store, sizes, roles, **inputs))


async def run_type(
    kind: TaskKind[Any],
    request: Mapping[str, Any],
    worker: TestWorker,
    files: Mapping[str, Image.Image],
    *,
    roles: frozenset[Role] = frozenset({"draw"}),
    **inputs: Any,
) -> Outcome:
    """Prepare and run one request. `files` are stored images by path; `inputs` sets other attributes of the inputs."""
    spec = await prepare(kind, request, worker, files, roles=roles, **inputs)
    # As the row of a request keeps it.
    spec |= {name: request[name] for name in ("native",) if name in request}
    job = Job(uuid.uuid4(), kind.name, 1, spec)
    async with aclosing(kind.run(job, worker.worker)) as running:
        events = [event async for event in running]
    artifacts = [event for event in events if isinstance(event, Artifact)]
    done = events[-1]
    assert isinstance(done, Done)
    fractions = [event.fraction for event in events if isinstance(event, Progress)]
    assert fractions == sorted(fractions), "progress went back"
    assert all(0 <= fraction <= 1 for fraction in fractions)
    contents = [await worker.store.get(artifact.path) for artifact in artifacts]
    images = [_open(data) for data, made in zip(contents, artifacts, strict=True) if made.content_type != "video/mp4"]
    public = kind.public_fields(_row(kind, job, spec, artifacts, done))
    return Outcome(spec, artifacts, images, contents, done.metadata, events, public)


def _row(kind: TaskKind[Any], job: Job, spec: dict[str, Any], artifacts: list[Artifact], done: Done) -> Task:
    outputs = [{name: getattr(made, name) for name in Artifact.__slots__} for made in artifacts]
    now = datetime.now(UTC)
    return Task(
        id=job.task_id,
        task_type=kind.name,
        queue=kind.queue,
        spec=spec,
        status="COMPLETED",
        result={"artifacts": outputs, "metadata": done.metadata},
        created_at=now,
        updated_at=now,
    )


def _open(data: bytes) -> Image.Image:
    import io

    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@cache
def tiny_flux_model() -> StagedModel:
    """The tiny FLUX with its random weights, loaded once a session."""
    from compute.pipelines import ModelConfig, load

    return load(ModelConfig(), Path(mkdtemp(prefix="compute-models-")))
