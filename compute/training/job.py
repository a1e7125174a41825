"""One training as one Ray job.

    ray job submit -- python -m compute.training.job --config train.yaml

With DATABASE_URL the job has a row like a training of the API, and reports to it. The API's supervisor submits the same
command with `--task` and `--fence` in place of the file.
"""

import asyncio
import os
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import ray
import typer
import yaml
from pydantic import ValidationError

from compute.errors import ComputeError, InvalidInput, TaskFailed, Unavailable
from compute.evaluation.vision import VisionModel
from compute.schemas.enums import ErrorCategory
from compute.schemas.training import CaptioningStrategy, TrainingStatus, TrainingType
from compute.settings import Settings, get_settings
from compute.storage.factory import open_store
from compute.storage.patience import until_back
from compute.telemetry.ids import bind_process
from compute.telemetry.logs import configure_logging
from compute.telemetry.tracing import start_tracing
from compute.training.export.results import publish
from compute.training.loop.fit import WorkerResources, fit
from compute.training.loop.inbox import Failed, Inbox
from compute.training.models import get_family
from compute.training.preprocessing.run import RayResources, preprocess
from compute.training.registry import base_model
from compute.training.reporter import Reporter
from compute.training.request import default_output_name
from compute.training.rows.progress import JobReport
from compute.training.spec import TrainingSpec
from compute.training.trace import exit_process, traced

__all__ = ["read_config", "run"]

_LOST, _FAILED = 3, 1
"""Exit codes: the training has ended or belongs to another job; it failed."""

app = typer.Typer(add_completion=False)


@app.command()
def main(
    config: Annotated[
        Path | None, typer.Option(help="A YAML file with the training's spec; see docs/concepts/training.md.")
    ] = None,
    task: Annotated[uuid.UUID | None, typer.Option(help="The id of a training of the API.")] = None,
    fence: Annotated[int, typer.Option(help="The fence of that training's row.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Data-parallel workers.")] = 1,
    cpus: Annotated[float, typer.Option(min=0, help="Cores that Ray reserves for each worker.")] = 0.0,
    gpus: Annotated[
        float | None, typer.Option(min=0, max=1, help="GPUs of each worker; by default 1 if there is one.")
    ] = None,
    memory_gb: Annotated[float, typer.Option(min=0.1, help="Main memory that Ray reserves for each worker.")] = 1.0,
    supervisor: Annotated[
        str | None, typer.Option(help="The deployment that warms the result: application/deployment.")
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="The address of the Ray cluster to work on.")] = None,
    traceparent: Annotated[str | None, typer.Option(help="What continues a trace, as W3C defines it.")] = None,
) -> None:
    """Train a model and register the result."""
    settings = get_settings()
    configure_logging(settings, process="training job")
    start_tracing(settings, process="training job")
    try:
        spec, report = _what_to_do(config, task, fence, settings)
    except (ComputeError, ValidationError, OSError, yaml.YAMLError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command's answer
        raise SystemExit(2) from None
    ray.init(address=cluster or ("auto" if ray_is_there() else None), namespace="serve", log_to_driver=False)
    if gpus is None:
        gpus = 1.0 if ray.cluster_resources().get("GPU") else 0.0
    resources = WorkerResources(workers, cpus, gpus, memory_gb)
    bind_process(training_id=spec.id)
    with traced(spec.id, traceparent):
        run(spec, settings, resources, report, supervisor)


def run(
    spec: TrainingSpec,
    settings: Settings,
    resources: WorkerResources,
    report: JobReport | None,
    supervisor: str | None = None,
) -> None:
    """Preprocess, train and publish; exits the process if the training fails or belongs to another job."""
    reporter = Reporter(spec, report, on_lost=_leave)
    try:
        asyncio.run(_run(spec, settings, resources, reporter, supervisor))
    except Unavailable:
        # The supervisor submits the job again.
        raise
    except ComputeError as error:
        category = error.category if isinstance(error, TaskFailed) else ErrorCategory.INVALID_INPUT
        _fail(reporter, category, error.detail)
    reporter.close()


async def _run(
    spec: TrainingSpec, settings: Settings, resources: WorkerResources, reporter: Reporter, supervisor: str | None
) -> None:
    objects = open_store(settings)
    try:
        reporter.enter(TrainingStatus.PREPROCESSING)
        reporter.log(f"base model {spec.model.source} ({spec.model.name}), {spec.training_type.lower()}")
        await preprocess(spec, settings, objects, RayResources(resources.cpus, resources.gpus), reporter)
        reporter.enter(TrainingStatus.TRAINING, processed_dataset_path=f"{spec.folder}/dataset")
        inbox = Inbox(spec.output_name)
        with _listening(inbox, reporter):
            checkpoint = await asyncio.to_thread(fit, spec, settings, resources, inbox)
        path = await until_back(partial(publish, spec, settings, objects, checkpoint), who="a finished training")
        reporter.log(f"stored {path}")
        if spec.training_type is TrainingType.LORA:
            await _warm(path, supervisor, reporter)
        reporter.log("completed")
        if not reporter.complete({"local_model_path": path}):
            _leave()
        # Last, so that the successor of a job that is killed before completion still finds the data set.
        await objects.delete_prefix(f"{spec.folder}/cache/")
    finally:
        await objects.close()


async def _warm(path: str, supervisor: str | None, reporter: Reporter) -> None:
    """Load the LoRA on the serving replicas, so that the first task that uses it finds it warm."""
    if supervisor is None:
        return
    from ray import serve

    application, _, deployment = supervisor.partition("/")
    try:
        replicas = await serve.get_deployment_handle(deployment, application).warm.remote(path)
    except Exception as error:  # the result is stored, and a task that names it will read it
        reporter.log(f"not warmed: {type(error).__name__}: {error}")
    else:
        reporter.log(f"warm on {replicas} replicas")


@contextmanager
def _listening(inbox: Inbox, reporter: Reporter) -> Iterator[None]:
    """Process the workers' messages inside the block, and the remaining ones at its end."""
    ended = threading.Event()

    def listen() -> None:
        while not ended.is_set():
            _hear(inbox, reporter, seconds=1.0)
        _hear(inbox, reporter, seconds=0.0)

    listener = threading.Thread(target=listen, name="listening", daemon=True)
    listener.start()
    try:
        yield
    finally:
        ended.set()
        listener.join()


def _hear(inbox: Inbox, reporter: Reporter, *, seconds: float) -> None:
    for message in inbox.take(seconds):
        if isinstance(message, Failed):
            _fail(reporter, message.category, message.detail)
        reporter.hear(message)


def _fail(reporter: Reporter, category: ErrorCategory, detail: str) -> None:
    """Fail the training, and exit this process and with it everything that Ray runs for it."""
    reporter.fail(category, detail)
    exit_process(_FAILED, detail)


def _leave() -> None:
    print("another job works on this training, or it has ended", flush=True)  # noqa: T201 - the Ray job's log
    exit_process(_LOST, "another job works on it, or it has ended")


def read_config(text: str, settings: Settings) -> TrainingSpec:
    """Read the spec in a YAML file. `model` may be the name of a base model; `id` and `output_name` may be left out.

    Raises:
        InvalidInput: there is no such base model, or it does not support the weighting; or no vision model is set up
            for captions.
        ValidationError: anything else is wrong.
    """
    found: dict[str, Any] = yaml.safe_load(text) or {}
    found.setdefault("id", str(uuid.uuid4()))
    if isinstance(found.get("trigger_word"), str):
        found.setdefault("output_name", default_output_name(found["trigger_word"], uuid.UUID(found["id"])))
    if isinstance(found.get("model", "default"), str):
        found["model"] = base_model(found.get("model", "default"), settings.training_models, field="model").model_dump()
    spec = TrainingSpec.model_validate(found)
    if bool(spec.data.images) == bool(spec.data.archive):
        raise InvalidInput("Exactly one of `images` and `archive` is required.", field="data")
    get_family(spec.model.family).check_weighting(spec.weighting)
    if spec.data.captioning is CaptioningStrategy.VISION:
        VisionModel.of(settings, field="data.captioning")
    return spec


def _what_to_do(
    config: Path | None, task: uuid.UUID | None, fence: int, settings: Settings
) -> tuple[TrainingSpec, JobReport | None]:
    if (config is None) == (task is None):
        raise typer.BadParameter("exactly one of --config and --task is required")
    if config is not None:
        spec = read_config(config.read_text(), settings)
        if settings.database_url is None:
            return spec, None
        report = JobReport(
            settings.database_url,
            spec.id,
            fence,
            log_bytes=settings.training_log_bytes,
            pooled=settings.database_pooled,
        )
        if not report.insert_if_missing(spec):
            _leave()
        return spec, report
    if task is None or settings.database_url is None:
        raise typer.BadParameter("--task needs DATABASE_URL")
    report = JobReport(
        settings.database_url,
        task,
        fence,
        log_bytes=settings.training_log_bytes,
        pooled=settings.database_pooled,
    )
    return report.spec(), report


def ray_is_there() -> bool:
    """Return whether this process belongs to a Ray cluster: as one of its jobs, or by RAY_ADDRESS."""
    return "RAY_ADDRESS" in os.environ or "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


if __name__ == "__main__":
    app()
