"""One worker of a training, as Ray Train runs it: loads model and cache, trains, and reports to the driver."""

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import ray.train
from PIL import Image

from compute.errors import ComputeError, TaskFailed
from compute.media.codec import encode
from compute.schemas.enums import ErrorCategory
from compute.settings import Settings, get_settings
from compute.storage.base import ObjectStore
from compute.storage.files import disk_failure
from compute.telemetry.ids import bind_process
from compute.telemetry.logs import configure_logging
from compute.training.files import with_store
from compute.training.loop.distributed import PeerLost
from compute.training.loop.history import StepReport
from compute.training.loop.inbox import Failed, Inbox, LogLines, Sampled, Saved, Stepped, WorkersStarted
from compute.training.loop.plot import plot_loss
from compute.training.loop.transfer import read, upload
from compute.training.models import get_family
from compute.training.spec import TrainingSpec

if TYPE_CHECKING:
    from compute.training.loop.trainer import Trainer

__all__ = ["ABOUT", "EXPORT", "WorkerTask", "train_worker"]

EXPORT = "export"
"""Folder of the result in the last checkpoint."""
ABOUT = "about.json"
"""File in it with the number of steps and the time, so that a job that publishes again makes the same file."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """The arguments of every worker."""

    spec: TrainingSpec
    inbox: Inbox


def train_worker(config: dict[str, WorkerTask]) -> None:
    """Train, resuming from the last checkpoint if there is one.

    Permanent errors are reported to the driver, which ends the job. Transient errors (a worker that was killed breaks
    the
    others' connections) are raised: Ray Train restarts all workers.
    """
    task = config["task"]
    rank = ray.train.get_context().get_world_rank()
    configure_logging(get_settings(), process=f"training worker {rank}")
    bind_process(training_id=task.spec.id)
    if rank == 0:
        logging.getLogger("compute").addHandler(_ToInbox(task.inbox))
        logging.getLogger("compute").setLevel(logging.INFO)
    try:
        _train(task)
    except PeerLost:
        raise
    except ComputeError as error:
        category = error.category if isinstance(error, TaskFailed) else ErrorCategory.INVALID_INPUT
        task.inbox.put_and_wait(Failed(category, error.detail))
        raise
    except OSError as error:
        failure = disk_failure("writing", "the training's files", error)
        task.inbox.put_and_wait(Failed(failure.category, failure.detail))
        raise
    except Exception as error:
        _log.exception("a worker failed")
        task.inbox.put_and_wait(Failed(ErrorCategory.INTERNAL, f"{type(error).__name__}: {error}"))
        raise


def _train(task: WorkerTask) -> None:
    # Imported here, because the driver also imports this module and does not need the model libraries.
    from ray.train.torch import get_device

    from compute.training.base_model import base_folder
    from compute.training.cache import LatentCache
    from compute.training.loop.distributed import ProcessGroup
    from compute.training.loop.trainer import Trainer

    spec, settings = task.spec, get_settings()
    device = get_device()
    group = ProcessGroup.joined(device)
    scratch = _local_cache(spec, settings, group.rank)
    base = base_folder(spec.model, settings.models_root)
    trainer = Trainer(spec, get_family(spec.model.family), base, LatentCache(scratch, device), group)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        read(checkpoint, trainer.restore)
        _log.info("resuming after step %d", trainer.step)
    if group.rank == 0:
        task.inbox.put(WorkersStarted(trainer.step, trainer.total_steps))
    trainer.run(_WorkerListener(task, trainer))
    shutil.rmtree(scratch, ignore_errors=True)


class _WorkerListener:
    """Implements `Listener` on Ray Train and the object store."""

    def __init__(self, task: WorkerTask, trainer: "Trainer") -> None:
        self._spec = task.spec
        self._inbox = task.inbox
        self._trainer = trainer

    def stepped(self, reports: Sequence[StepReport]) -> None:
        self._inbox.put(Stepped(tuple(reports)))

    def sampled(self, step: int, index: int, image: Image.Image) -> None:
        path = f"{self._spec.folder}/samples/step-{step:06d}/{index}.png"
        self._store(path, encode(image, "png"), "image/png")
        samples = self._spec.samples
        found = {"prompt": samples.prompts[index], "seed": samples.seed + index, "path": path}
        self._inbox.put(Sampled(step, (found,)))

    def save(self, step: int, write: Callable[[Path], None] | None) -> None:
        if write is None:
            ray.train.report({"step": step})
            return
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            if step == self._trainer.total_steps:
                export = Path(folder) / EXPORT
                export.mkdir()
                self._trainer.export(export)
                about = {"steps": step, "date": datetime.now(UTC).isoformat(timespec="seconds")}
                (export / ABOUT).write_text(json.dumps(about))
            checkpoint = ray.train.Checkpoint.from_directory(folder)
            into = partial(upload, ray.train.get_context().get_storage())
            ray.train.report({"step": step}, checkpoint=checkpoint, checkpoint_upload_fn=into)
        seconds = time.perf_counter() - began
        plot = f"{self._spec.folder}/loss.png"
        history = self._trainer.history
        image = plot_loss(
            range(1, len(history.losses) + 1),
            history.losses,
            history.learning_rates,
            name=self._spec.output_name,
            total_steps=self._trainer.total_steps,
        )
        self._store(plot, image, "image/png")
        self._inbox.put(Saved(step, seconds, plot))

    def _store(self, path: str, data: bytes, content_type: str) -> None:
        async def put(objects: ObjectStore) -> None:
            await objects.put(path, data, content_type)

        with_store(put)


class _ToInbox(logging.Handler):
    def __init__(self, inbox: Inbox) -> None:
        super().__init__()
        self._inbox = inbox

    def emit(self, record: logging.LogRecord) -> None:
        self._inbox.put(LogLines((record.getMessage(),)))


def _local_cache(spec: TrainingSpec, settings: Settings, rank: int) -> Path:
    """Download the cache to a folder of this worker on this machine."""
    folder = settings.cache_root / "training" / f"{spec.id.hex}-{rank}"
    # A killed worker leaves its folder behind.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    async def fetch(objects: ObjectStore) -> None:
        prefix = f"{spec.folder}/cache/"
        for stored in await objects.list(prefix, 100_000):
            await objects.download(stored.path, folder / stored.path.removeprefix(prefix))

    with_store(fetch)
    return folder
