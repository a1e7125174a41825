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
    """Options of the training. Without `epochs` and `steps` it has 1000 steps."""

    trigger_word: TriggerWord | None = Field(
        default=None, description="The word that invokes it in a prompt; by default `output_name` as one word."
    )


class QuickstartTrainingCreate(TrainingFrame):
    """Train a model on a zip file of images."""

    base_model: BaseModelName | None = Field(
        default="default", description="The base model, by a name that is configured on this installation."
    )
    config: QuickstartTrainingConfig = QuickstartTrainingConfig()


class QuickstartTrainingModel(BaseModel):
    """The trained model."""

    name: str
    path: str = Field(description="The path by which tasks name the LoRA.")
    url: str | None = Field(default=None, description="Downloads its file without a key, until it expires.")


class QuickstartTrainingSample(BaseModel):
    """An image generated during the training."""

    url: str = Field(description="Downloads without a key, until it expires.")
    prompt: str
    step: int
    seed: int


class QuickstartTrainingOutput(BaseModel):
    """Progress and results. Present while the training runs, too."""

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
    error: str | None = Field(default=None, description="The reason of a failure, in one line.")


class QuickstartTrainingEvent(BaseModel):
    """One event of a training, with lower-case words and progress from 0 to 1."""

    id: int = Field(description="Increasing id, for `after`.")
    type: str = Field(examples=["training_status"])
    status: QuickstartStatus = Field(description="The training's status at that time.")
    data: dict[str, Any] | None = None
    created_at: datetime


class QuickstartTrainingEventList(BaseModel):
    """Events of one training, oldest first."""

    events: list[QuickstartTrainingEvent]
    next_cursor: str | None = Field(default=None, description="The `cursor` of the next page; null on the last one.")
