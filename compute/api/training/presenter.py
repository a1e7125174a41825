"""The rows of a training as a client sees them, in either dialect."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from compute.api.columns import shown_columns
from compute.api.dashboard import job_page
from compute.api.dialect import Dialect, quickstart_training_id
from compute.api.links import RequestLinks
from compute.db.tables import Training, TrainingEvent
from compute.schemas.quickstart.tasks import QuickstartStatus
from compute.schemas.quickstart.training import (
    QuickstartTraining,
    QuickstartTrainingEvent,
    QuickstartTrainingModel,
    QuickstartTrainingOutput,
    QuickstartTrainingSample,
)
from compute.schemas.training import (
    TrainingEventPublic,
    TrainingSample,
    TrainingStatus,
    TrainingTask,
)
from compute.storage.paths import LORAS

__all__ = ["QUICKSTART_STATUS", "listed", "present", "presented_event", "render_new"]

QUICKSTART_STATUS: dict[TrainingStatus, QuickstartStatus] = {
    TrainingStatus.PENDING: "pending",
    # The samples know one word for all that goes on.
    TrainingStatus.PREPROCESSING: "running",
    TrainingStatus.TRAINING: "running",
    TrainingStatus.COMPLETED: "completed",
    TrainingStatus.FAILED: "failed",
    TrainingStatus.CANCELLED: "cancelled",
}
_LONG = ("samples", "logs")
"""What a list does not read."""
_FROM_ROW = shown_columns(TrainingTask, Training, but=_LONG)


async def present(training: Training, dialect: Dialect, links: RequestLinks) -> TrainingTask | QuickstartTraining:
    """The answer in a dialect, with everything that is known."""
    if dialect is Dialect.QUICKSTART:
        return await _quickstart(training, links)
    task = listed(training, links)
    task.logs, task.source_images = training.logs, training.spec["data"]["images"]
    task.model_url, task.loss_plot_url = await _model_url(training, links), await _link(training.loss_plot_path, links)
    task.samples = [TrainingSample(**one, url=await links.to(one["path"])) for one in training.samples]
    return task


def listed(training: Training, links: RequestLinks) -> TrainingTask:
    """A training as lists show it; it may have been read without `spec` and `logs`."""
    return TrainingTask(**_fields(training), dashboard_url=job_page(links.links.settings, training.job_id))


def presented_event(event: TrainingEvent, dialect: Dialect) -> TrainingEventPublic | QuickstartTrainingEvent:
    """One thing that happened to a training, in a dialect."""
    if dialect is Dialect.QUICKSTART:
        return _quickstart_event(event)
    return TrainingEventPublic(
        id=event.id, type=event.type, status=event.status, data=event.data, created_at=event.created_at
    )


def _quickstart_event(event: TrainingEvent) -> QuickstartTrainingEvent:
    return QuickstartTrainingEvent(
        id=event.id,
        type=event.type.lower(),
        status=QUICKSTART_STATUS[TrainingStatus(event.status)],
        data=None if event.data is None else _quickstart_data(event.data),
        created_at=event.created_at,
    )


def _quickstart_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of an event, in the words and units of the quick start."""
    said = _quickstart_metrics(data)
    if "task_id" in said:
        said["task_id"] = quickstart_training_id(UUID(said["task_id"]))
    if "event_type" in said:
        said["event_type"] = said["event_type"].lower()
    if "status" in said:
        said["status"] = QUICKSTART_STATUS[TrainingStatus(said["status"])]
    if isinstance(said.get("progress"), int | float):
        said["progress"] = round(said["progress"] / 100, 4)
    return said


def render_new(training: Training, dialect: Dialect) -> str:
    """A training that was just stored, as JSON. It has no results, and so no links."""
    if dialect is Dialect.QUICKSTART:
        return _quickstart_frame(training, None).model_dump_json()
    return TrainingTask(**_fields(training), **_long_fields(training)).model_dump_json()


def _fields(training: Training) -> dict[str, Any]:
    request = training.request
    return {
        **{name: getattr(training, name) for name in _FROM_ROW},
        **{name: value for name, value in request.items() if name in TrainingTask.model_fields},
        # How many steps a number of epochs is, only the images tell.
        "steps": request["steps"] or training.total_steps,
        "webhook_url": training.webhook_url or "",
        "lora_path": _lora_path(training),
        "celery_training_task_id": training.job_id,
    }


def _long_fields(training: Training) -> dict[str, Any]:
    return {"logs": training.logs, "source_images": training.spec["data"]["images"]}


async def _quickstart(training: Training, links: RequestLinks) -> QuickstartTraining:
    if training.status == TrainingStatus.PENDING:
        return _quickstart_frame(training, None)
    path = training.local_model_path
    model = None
    if path is not None:
        model = QuickstartTrainingModel(
            name=training.request["output_name"],
            path=_lora_path(training) or path,
            url=await _model_url(training, links),
        )
    samples = [
        QuickstartTrainingSample(
            url=await links.to(one["path"]), prompt=one["prompt"], step=one["step"], seed=one["seed"]
        )
        for one in training.samples
    ]
    output = QuickstartTrainingOutput(metrics=_quickstart_metrics(training.metrics), model=model, samples=samples)
    return _quickstart_frame(training, output)


def _quickstart_frame(training: Training, output: QuickstartTrainingOutput | None) -> QuickstartTraining:
    return QuickstartTraining(
        id=quickstart_training_id(training.id),
        status=QUICKSTART_STATUS[TrainingStatus(training.status)],
        progress=round(training.progress / 100, 4),
        created_at=training.created_at,
        started_at=training.started_at,
        completed_at=training.completed_at,
        output=output,
        error=training.error_message,
    )


def _quickstart_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics with the samples' word for the epoch."""
    rest = {name: value for name, value in metrics.items() if name != "epoch"}
    return ({"current_epoch": metrics["epoch"]} if "epoch" in metrics else {}) | rest


def _lora_path(training: Training) -> str | None:
    path = training.local_model_path or ""
    return path.removeprefix(LORAS) if path.startswith(LORAS) else None


async def _model_url(training: Training, links: RequestLinks) -> str | None:
    """A link to the LoRA's file; a FULL training's model is a folder."""
    path = training.local_model_path
    return await links.to(path, model=True) if path is not None and _lora_path(training) else None


async def _link(path: str | None, links: RequestLinks) -> str | None:
    return None if path is None else await links.to(path)
