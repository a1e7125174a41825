"""A training in the quick-start dialect."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from compute.schemas.quickstart.tasks import QuickstartStatus
from compute.schemas.training import BaseModelName, TrainingFrame, TrainingOptions, TriggerWord

__all__ = [
    "QuickstartTraining",
    "QuickstartTrainingConfig",
    "QuickstartTrainingCreate",
    "QuickstartTrainingEvent",
    "QuickstartTrainingEventList",
    "QuickstartTrainingModel",
    "QuickstartTrainingOutput",
    "QuickstartTrainingSample",
]


class QuickstartTrainingConfig(TrainingOptions):
    """How it is done. Without `epochs` and `steps`: 1000 steps."""

    trigger_word: TriggerWord | None = Field(
        default=None, description="The word that will call it up in a prompt; `output_name` as one word."
    )


class QuickstartTrainingCreate(TrainingFrame):
    """Teach a model what a zip file of pictures shows."""

    base_model: BaseModelName | None = Field(
        default="default", description="The model that learns, by a name that this installation knows."
    )
    config: QuickstartTrainingConfig = QuickstartTrainingConfig()


class QuickstartTrainingModel(BaseModel):
    """What came of it."""

    name: str
    path: str = Field(description="The path by which tasks name the LoRA.")
    url: str | None = Field(default=None, description="Downloads its file without a key, until it expires.")


class QuickstartTrainingSample(BaseModel):
    """A picture drawn on the way."""

    url: str = Field(description="Downloads without a key, until it expires.")
    prompt: str
    step: int
    seed: int


class QuickstartTrainingOutput(BaseModel):
    """How far it is, and what came of it. It is there while the training runs, too."""

    metrics: dict[str, Any] = Field(default={}, description="The latest: `current_epoch`, `loss` and others.")
    model: QuickstartTrainingModel | None = None
    samples: list[QuickstartTrainingSample] = []


class QuickstartTraining(BaseModel):
    """A training with lower-case words and progress from 0 to 1."""

    model_config = ConfigDict(protected_namespaces=())

    id: str = Field(description="`train_` and 32 hex digits: the training's UUID without its dashes.")
    status: QuickstartStatus
    progress: float = Field(default=0.0, ge=0, le=1)
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    output: QuickstartTrainingOutput | None = None
    error: str | None = Field(default=None, description="Why it failed, in one line.")


class QuickstartTrainingEvent(BaseModel):
    """One thing that happened to a training, with lower-case words and progress from 0 to 1."""

    id: int = Field(description="Grows; `after` takes it.")
    type: str = Field(examples=["training_status"])
    status: QuickstartStatus = Field(description="What the training was then.")
    data: dict[str, Any] | None = None
    created_at: datetime


class QuickstartTrainingEventList(BaseModel):
    """Events of one training, oldest first."""

    events: list[QuickstartTrainingEvent]
    next_cursor: str | None = Field(default=None, description="The `cursor` of the next page; null on the last one.")
