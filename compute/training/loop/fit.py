"""Runs a training on Ray Train, whose workers restart from the last checkpoint after a failure."""

from dataclasses import dataclass
from typing import Any

from pyarrow.fs import FileSystem, LocalFileSystem
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from compute.errors import TaskFailed
from compute.settings import Settings
from compute.training.loop.inbox import Inbox
from compute.training.loop.worker import WorkerTask, train_worker
from compute.training.spec import TrainingSpec

__all__ = ["WorkerResources", "fit", "run_storage"]

_RUNS = "run"
"""The folder of checkpoints in a training's folder."""
_SNAPSHOT = "checkpoint_manager_snapshot.json"
"""The file that Ray Train resumes from."""
_RESTARTS = 3
"""Restarts of the workers by Ray Train before the job gives up; then the supervisor decides."""


@dataclass(frozen=True, slots=True)
class WorkerResources:
    """Resources that Ray reserves for a training.

    Attributes:
        workers: Data-parallel workers.
        cpus: Cores of each; 0 where the serving pools have taken them all.
        gpus: GPUs of each, 0 or 1.
        memory_gb: Main memory of each, in GB (10^9 bytes).
    """

    workers: int = 1
    cpus: float = 0.0
    gpus: float = 0.0
    memory_gb: float = 1.0


def fit(spec: TrainingSpec, settings: Settings, resources: WorkerResources, inbox: Inbox) -> Checkpoint:
    """Train to the last step, resuming where an earlier job stopped; return the last checkpoint, which has the result.

    Raises:
        TaskFailed: Ray Train ended without one.
        ray.train.TrainingFailedError: the workers were lost too often.
    """
    name, storage = run_storage(spec, settings)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"task": WorkerTask(spec, inbox)},
        torch_config=TorchConfig(backend="nccl" if resources.gpus else "gloo"),
        scaling_config=ScalingConfig(
            # More workers than images would leave some without work.
            num_workers=min(spec.workers or resources.workers, spec.batch_size),
            use_gpu=resources.gpus > 0,
            resources_per_worker={"CPU": resources.cpus, "memory": resources.memory_gb * 1e9}
            | ({"GPU": resources.gpus} if resources.gpus else {}),
        ),
        run_config=RunConfig(
            name=name,
            checkpoint_config=CheckpointConfig(num_to_keep=spec.max_step_saves_to_keep),
            failure_config=FailureConfig(max_failures=_RESTARTS),
            **storage,
        ),
    )
    result = trainer.fit()
    if result.checkpoint is None:
        raise TaskFailed("Ray Train ended without a checkpoint.")
    return result.checkpoint


def run_storage(spec: TrainingSpec, settings: Settings) -> tuple[str, dict[str, Any]]:
    """The run's name, and where its checkpoints are stored: in the object store, in the training's folder, the same for
    every job of the training.

    Ray shows the run by the name of its result. The name is also a folder, which earlier versions did not have: a
    training that began with one of them keeps its checkpoints where they are.
    """
    root, filesystem = _root(settings)
    folder = f"{root}/{spec.folder}"
    begun = filesystem.get_file_info(f"{folder}/{_RUNS}/{_SNAPSHOT}").is_file
    name, path = (_RUNS, folder) if begun else (spec.output_name, f"{folder}/{_RUNS}")
    return name, {"storage_path": path, "storage_filesystem": filesystem}


def _root(settings: Settings) -> tuple[str, FileSystem]:
    """The object store as Ray Train sees it: the path of its root in a file system."""
    if settings.storage == "local":
        return str(settings.storage_root), LocalFileSystem()
    import boto3
    from pyarrow.fs import S3FileSystem

    endpoint = settings.s3_endpoint_url or ""
    scheme, _, host = endpoint.rpartition("://")
    credentials = boto3.Session().get_credentials()
    frozen = credentials.get_frozen_credentials() if credentials is not None else None
    filesystem = S3FileSystem(
        access_key=frozen.access_key if frozen else None,
        secret_key=frozen.secret_key if frozen else None,
        session_token=frozen.token if frozen else None,
        region=boto3.Session().region_name,
        endpoint_override=host or None,
        scheme=scheme or "https",
    )
    prefix = settings.s3_prefix.strip("/")
    return f"{settings.s3_bucket}/{prefix}" if prefix else str(settings.s3_bucket), filesystem
