"""Requests for trainings, and trainings as the API shows them."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compute.schemas.enums import ErrorCategory, EventType, TaskPriority
from compute.schemas.fields import MAX_PROMPT, FreeObject
from compute.schemas.lora import EntityType
from compute.schemas.rules.strict import JsonBody
from compute.schemas.rules.text import VISIBLE, VISIBLE_OR_BLANK
from compute.schemas.tasks import ShortText

__all__ = [
    "MAX_BATCH",
    "MAX_EPOCHS",
    "MAX_IMAGES",
    "MAX_RANK",
    "MAX_SAMPLE_PROMPTS",
    "MAX_STEPS",
    "MAX_TRAINING_SEED",
    "OUTPUT_NAME",
    "BaseModelName",
    "CaptioningStrategy",
    "Optimizer",
    "TimestepSampling",
    "TrainingEventList",
    "TrainingEventPublic",
    "TrainingFrame",
    "TrainingOptions",
    "TrainingSample",
    "TrainingStatus",
    "TrainingTask",
    "TrainingTaskCreate",
    "TrainingTaskList",
    "TrainingType",
    "TriggerWord",
    "Weighting",
]

MAX_IMAGES = 5_000
"""Largest number of images in a data set."""
MAX_STEPS = 100_000
MAX_EPOCHS = 10_000
MAX_RANK = 256
MAX_BATCH = 1024
MAX_SAMPLE_PROMPTS = 16
MAX_TRAINING_SEED = 2**32 - 1
OUTPUT_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""A file name without its extension."""
_ONE_LINE = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"
"""A text on one line that is not blank."""

Optimizer = Literal["adamw", "adamw8bit", "adafactor", "sgd"]
TimestepSampling = Literal["logit_normal", "uniform", "mode", "shifted"]
Weighting = Literal["none", "min_snr", "sigma_sqrt", "cosmap"]

_Guidance = Annotated[float, Field(ge=0, le=30)]
_Source = Annotated[str, Field(min_length=1)]
_Prompt = Annotated[str, Field(max_length=MAX_PROMPT), VISIBLE_OR_BLANK]
TriggerWord = Annotated[str, Field(max_length=100, pattern=_ONE_LINE), VISIBLE]
BaseModelName = Annotated[str, Field(min_length=1, max_length=200)]


class TrainingType(StrEnum):
    """The trained weights: a LoRA on a frozen model, or the model's own weights."""

    LORA = "LORA"
    FULL = "FULL"


class TrainingStatus(StrEnum):
    """The status of a training; `compute.training.states` has the allowed transitions."""

    PENDING = "PENDING"
    PREPROCESSING = "PREPROCESSING"
    TRAINING = "TRAINING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class CaptioningStrategy(StrEnum):
    """The source of the captions: the trigger word alone, the files' names or text files next to them, or a vision
    model."""

    TRIGGER_ONLY = "trigger_only"
    FILENAME = "filename"
    VISION = "vision"


class _Request(JsonBody):
    @model_validator(mode="before")
    @classmethod
    def _null_is_default(cls, values: Any) -> Any:
        """Drop null values, so that `model_fields_set` has only fields with a value."""
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value is not None or name not in cls.model_fields}


class TrainingFrame(_Request):
    """Fields of a request about the training as a whole, in either dialect."""

    training_type: TrainingType = Field(
        default=TrainingType.LORA, description="LORA: a small adapter file for the model. FULL: all of its weights."
    )
    entity_type: EntityType = Field(
        default=EntityType.PRODUCT, description="The subject; it decides the LoRA's folder."
    )
    entity_id: UUID | None = Field(default=None, description="The caller's id of the subject.")
    dataset_url: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="Address or storage path of a zip file of images, with captions in text files of the same names.",
    )
    output_name: str | None = Field(
        default=None,
        pattern=OUTPUT_NAME,
        description="Name of the LoRA's file without extension; by default made of the trigger word.",
    )
    priority: TaskPriority | None = Field(
        default=TaskPriority.NORMAL, description="0 low, 1 normal, 2 high, 3 urgent: a higher one starts first."
    )
    webhook_url: str | None = Field(
        default=None, max_length=2048, description="Called once, signed, when the training has ended."
    )
    origin_instance: ShortText | None = Field(
        default="unknown", description="The caller's installation that sends this."
    )
    origin_zone: ShortText | None = Field(default=None, description="The caller's environment or region, e.g. `eu`.")
    origin_version: ShortText | None = Field(default=None, description="Version of the caller.")
    origin_tenant_id: ShortText | None = Field(
        default=None,
        description="The tenant; tenants of one priority take turns. A key that is bound to one sets it.",
    )


class TrainingOptions(_Request):
    """Options of the training, in either dialect. Null means the default."""

    rank: int | None = Field(default=16, ge=1, le=MAX_RANK, description="Rank of the LoRA's matrices.")
    steps: int | None = Field(default=1000, ge=1, le=MAX_STEPS, description="Number of optimizer steps.")
    epochs: int | None = Field(
        default=None, ge=1, le=MAX_EPOCHS, description="Instead of `steps`: how often each image is used."
    )
    learning_rate: float | None = Field(default=1e-4, gt=0, le=1)
    batch_size: int | None = Field(
        default=1, ge=1, le=MAX_BATCH, description="Images of one micro-batch, over all workers."
    )
    gradient_accumulation: int | None = Field(
        default=1, ge=1, le=MAX_BATCH, description="Micro-batches that make one step."
    )
    optimizer: Optimizer | None = "adamw8bit"
    save_every: int | None = Field(default=2000, ge=1, le=MAX_STEPS, description="Steps between checkpoints.")
    max_step_saves_to_keep: int | None = Field(
        default=4, ge=1, le=100, description="Number of latest checkpoints that are kept."
    )
    sample_prompts: list[_Prompt] | None = Field(
        default=[],
        max_length=MAX_SAMPLE_PROMPTS,
        description="Prompts of sample images during the training, always with the same seeds, to follow its progress.",
    )
    sample_every: int | None = Field(
        default=250, ge=1, le=MAX_STEPS, description="Steps between images of `sample_prompts`."
    )
    sample_steps: int | None = Field(default=25, ge=1, le=200, description="Denoising steps of those images.")
    seed: int | None = Field(
        default=0, ge=0, le=MAX_TRAINING_SEED, description="Seed of the order, the noise and the initial weights."
    )
    resolution: int | None = Field(
        default=None,
        ge=32,
        le=2048,
        description="Side in pixels of a square of an image's area; by default the model's own.",
    )
    bypass_guidance_embedding: bool | None = Field(
        default=False, description="Train a guidance-distilled model without its guidance embedding."
    )
    guidance: tuple[_Guidance, _Guidance] | None = Field(
        default=(1.0, 1.0),
        description="Range of the guidance values passed to a guidance-distilled model during training.",
    )
    timesteps: TimestepSampling | None = Field(default="logit_normal", description="Distribution of the noise levels.")
    weighting: Weighting | None = Field(default="none", description="Weight of each noise level in the loss.")
    caption_dropout: float | None = Field(
        default=0.0, ge=0, le=1, description="Share of images that are trained without their caption."
    )
    base_precision: Literal["full", "fp8"] | None = Field(
        default="full", description="fp8: the frozen base of a LoRA takes half the memory."
    )
    gradient_checkpointing: bool | None = Field(
        default=None, description="null: on for models above a billion weights."
    )
    compile: bool | None = Field(default=False, description="Use torch.compile.")
    ema_decay: float | None = Field(
        default=None, gt=0, lt=1, description="Keep an exponential moving average of the weights, with this decay."
    )
    workers: int | None = Field(
        default=None, ge=1, le=64, description="Data-parallel workers; by default the deployment's."
    )
    preprocessing_transforms: list[FreeObject] | None = Field(
        default=None,
        max_length=32,
        description="Transforms of the images: `resize`, `crop`, `flip`, `background_removal`.",
        examples=[[{"type": "background_removal"}, {"type": "flip"}]],
    )
    preprocessing_captioning_strategy: CaptioningStrategy | None = Field(
        default=CaptioningStrategy.TRIGGER_ONLY,
        description="`trigger_only`, `filename` (or a text file next to the image) or `vision` (what a model sees).",
    )
    preprocessing_captioning_prompt: _Prompt | None = Field(
        default=None, description="What the vision model is asked about each image, in place of our own words."
    )


class TrainingTaskCreate(TrainingOptions, TrainingFrame):
    """Train a model on images."""

    trigger_word: TriggerWord = Field(description="The word that invokes it in a prompt.")
    source_images: list[_Source] | None = Field(
        default=[],
        max_length=MAX_IMAGES,
        description=f"1 to {MAX_IMAGES} images, unless there is a `dataset_url`: http(s) addresses, storage paths, "
        "data URLs or base64.",
    )
    base_model_path: BaseModelName | None = Field(
        default="black-forest-labs/FLUX.1-dev",
        description="The base model, by a name that is configured on this installation.",
    )


class TrainingSample(BaseModel):
    """An image generated during the training."""

    step: int = Field(description="The number of steps before it.")
    prompt: str
    seed: int
    path: str = Field(description="Its storage path.")
    url: str | None = Field(default=None, description="A link to it that needs no key and expires.")


class TrainingTask(BaseModel):
    """A training as the API shows it."""

    model_config = ConfigDict(protected_namespaces=())

    id: UUID
    created_at: datetime
    updated_at: datetime
    origin_instance: str = "unknown"
    origin_zone: str | None = None
    origin_version: str | None = None
    origin_tenant_id: str | None = None

    training_type: TrainingType = TrainingType.LORA
    entity_type: EntityType = EntityType.PRODUCT
    entity_id: UUID | None = None
    status: TrainingStatus = TrainingStatus.PENDING
    progress: float = Field(default=0.0, description="Progress in percent.")
    current_step: int = 0
    total_steps: int = Field(default=1000, description="With `epochs`, 0 until the images are counted.")
    eta_seconds: int | None = Field(default=None, description="While it trains: the estimated time to the end.")

    trigger_word: str
    training_folder: str = Field(default="", description="Storage path of the folder of its files.")
    rank: int = 16
    save_every: int = 2000
    max_step_saves_to_keep: int = 4
    batch_size: int = 1
    steps: int = Field(default=1000, description="As asked for; with `epochs` the same as `total_steps`.")
    epochs: int | None = None
    learning_rate: float = 1e-4
    gradient_accumulation: int = 1
    optimizer: str = "adamw8bit"
    seed: int = 0
    resolution: int | None = Field(default=None, description="Side in pixels of a square of an image's area.")
    bypass_guidance_embedding: bool = False
    base_model_path: str = Field(default="black-forest-labs/FLUX.1-dev", description="As asked for.")
    base_model: str | None = Field(default=None, description="The model that the name refers to on this installation.")
    output_name: str | None = None
    local_model_path: str | None = Field(
        default=None, description="Storage path of the LoRA's file, or of the folder of a FULL training's model."
    )
    lora_path: str | None = Field(default=None, description="The path of the LoRA for tasks.")
    model_url: str | None = Field(default=None, description="A link to the LoRA's file that needs no key and expires.")

    sample_every: int = 250
    sample_steps: int = 25
    sample_prompts: list[str] = []
    samples: list[TrainingSample] = []
    metrics: dict[str, Any] = Field(
        default={}, description="The latest values: loss, learning rate, images a second, memory."
    )
    loss_plot_path: str | None = Field(default=None, description="Storage path of a plot of the loss.")
    loss_plot_url: str | None = Field(default=None, description="A link to it that needs no key and expires.")

    started_at: datetime | None = None
    completed_at: datetime | None = None
    logs: str = Field(default="", description="The end of the job's log.")
    error_message: str | None = None
    error_category: ErrorCategory | None = None
    webhook_url: str = ""
    celery_training_task_id: str | None = Field(default=None, description="The Ray job's submission id.")
    dashboard_url: str | None = Field(
        default=None, description="The page of its job in Ray's dashboard, where the dashboard's address is known."
    )
    celery_preprocessing_task_id: str | None = None
    celery_chain_task_id: str | None = None
    attempts: int = Field(default=0, description="Number of jobs started for it.")

    preprocessing_stage: str | None = None
    processed_files_count: int | None = None
    total_files_count: int | None = None
    preprocessing_started_at: datetime | None = None
    preprocessing_completed_at: datetime | None = None
    source_images: list[str] = Field(default=[], description="As requested; inline images by their storage paths.")
    dataset_url: str | None = None
    processed_dataset_path: str | None = None
    rejected_files: list[dict[str, Any]] = Field(default=[], description="Images that were left out, with reasons.")
    preprocessing_transforms: list[dict[str, Any]] | None = None
    preprocessing_captioning_strategy: str = "trigger_only"
    preprocessing_captioning_prompt: str | None = None
    priority: TaskPriority = TaskPriority.NORMAL
    priority_changed_at: datetime | None = None


class TrainingTaskList(BaseModel):
    """Trainings, newest first, without their logs, source images and samples."""

    tasks: list[TrainingTask]
    total: int = Field(description="Number of matches, regardless of `skip` and `limit`; counted up to 10,000.")
    total_is_exact: bool = Field(default=True, description="False: there are `total` or more.")
    skip: int
    limit: int
    next_cursor: str | None = Field(default=None, description="The `cursor` of the next page; null on the last one.")


class TrainingEventPublic(BaseModel):
    """One event of a training."""

    id: int = Field(description="Increasing id, for `after`.")
    type: EventType
    status: TrainingStatus = Field(description="The training's status at that time.")
    data: dict[str, Any] | None = None
    created_at: datetime


class TrainingEventList(BaseModel):
    """Events of one training, oldest first."""

    events: list[TrainingEventPublic]
    next_cursor: str | None = Field(default=None, description="The `cursor` of the next page; null on the last one.")
