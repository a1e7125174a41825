"""The complete description of a training: a row's `spec`, and the YAML file of `--config`."""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compute.schemas.lora import EntityType
from compute.schemas.rules.text import VISIBLE, VISIBLE_OR_BLANK
from compute.schemas.training import (
    MAX_BATCH,
    MAX_EPOCHS,
    MAX_IMAGES,
    MAX_RANK,
    MAX_SAMPLE_PROMPTS,
    MAX_STEPS,
    MAX_TRAINING_SEED,
    OUTPUT_NAME,
    CaptioningStrategy,
    Optimizer,
    TimestepSampling,
    TrainingType,
    Weighting,
)
from compute.schemas.transforms import Transform

__all__ = [
    "MAX_IMAGES",
    "TRAININGS",
    "DataSpec",
    "ModelSpec",
    "Optimizer",
    "OptimizerSpec",
    "SampleSpec",
    "TrainingSpec",
]

TRAININGS = "training/"
"""Prefix of the files of all trainings, each in a folder of its own."""


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ModelSpec(_Spec):
    """The base model. `name` is its name in the request; `source` a folder, a name under the models root, or a Hugging
    Face
    repository."""

    name: str
    source: str
    family: str = "flux"
    revision: str | None = None
    resolution: int = Field(default=512, ge=32, le=2048, description="Side in pixels of the square it is trained at.")


class DataSpec(_Spec):
    """The images: addresses or storage paths, or one zip archive of them, with captions."""

    images: tuple[str, ...] = Field(default=(), max_length=MAX_IMAGES)
    archive: str | None = Field(default=None, description="Address or storage path of a zip file.")
    transforms: tuple[Transform, ...] = ()
    captioning: CaptioningStrategy = CaptioningStrategy.TRIGGER_ONLY
    captioning_prompt: str | None = None


class OptimizerSpec(_Spec):
    """Optimizer and learning rate."""

    name: Optimizer = "adamw8bit"
    learning_rate: float = Field(default=1e-4, gt=0, le=1.0)
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)


class SampleSpec(_Spec):
    """Images generated during the training, always with the same seeds."""

    prompts: tuple[Annotated[str, VISIBLE_OR_BLANK], ...] = Field(default=(), max_length=MAX_SAMPLE_PROMPTS)
    every: int = Field(default=250, ge=1)
    steps: int = Field(default=25, ge=1, le=200)
    guidance_scale: float = Field(default=3.5, ge=0, le=30)
    seed: int = Field(default=42, ge=0)


class TrainingSpec(_Spec):
    """One training. Its length is given by exactly one of `steps` and `epochs`."""

    id: UUID
    tenant: str | None = Field(default=None, description="Whose LoRA it will be; everybody's if null.")
    output_name: str = Field(pattern=OUTPUT_NAME)
    training_type: TrainingType = TrainingType.LORA
    entity_type: EntityType = EntityType.PRODUCT
    trigger_word: Annotated[str, VISIBLE] = Field(min_length=1, max_length=100)
    model: ModelSpec
    data: DataSpec
    optimizer: OptimizerSpec = OptimizerSpec()
    samples: SampleSpec = SampleSpec()

    rank: int = Field(default=16, ge=1, le=MAX_RANK)
    alpha: int | None = Field(
        default=None, ge=1, le=1024, description="The LoRA's scale is alpha / rank; rank if null."
    )
    steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    epochs: int | None = Field(default=None, ge=1, le=MAX_EPOCHS)
    batch_size: int = Field(default=1, ge=1, le=MAX_BATCH, description="Images of one micro-batch, over all workers.")
    gradient_accumulation: int = Field(default=1, ge=1, le=MAX_BATCH, description="Micro-batches of one step.")
    save_every: int = Field(default=250, ge=1, description="Steps between checkpoints.")
    max_step_saves_to_keep: int = Field(default=4, ge=1, le=100)
    seed: int = Field(default=0, ge=0, le=MAX_TRAINING_SEED)

    bypass_guidance_embedding: bool = False
    guidance: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = Field(
        default=(1.0, 1.0),
        description="Range of the guidance values passed to a guidance-distilled model during training.",
    )
    timesteps: TimestepSampling = Field(
        default="logit_normal",
        description="Where on the way from image to noise a flow-matching model learns; shifted: uniform, then moved "
        "towards the noise as the scheduler does for inference.",
    )
    weighting: Weighting = "none"
    prediction: Literal["auto", "epsilon", "v_prediction"] = Field(
        default="auto", description="Prediction target of an SDXL network; auto: that of its scheduler."
    )
    min_snr_gamma: float = Field(default=5.0, gt=0)
    caption_dropout: float = Field(default=0.0, ge=0, le=1, description="Share of images that learn without caption.")

    precision: Literal["auto", "bf16", "fp32"] = Field(default="auto", description="auto: bf16 on a GPU.")
    base_precision: Literal["full", "fp8"] = Field(
        default="full", description="fp8: the frozen weights of a LoRA's base take half the memory."
    )
    gradient_checkpointing: bool | None = Field(
        default=None, description="null: on for models above a billion weights."
    )
    compile: bool = False
    ema_decay: float | None = Field(default=None, gt=0, lt=1, description="Exponential moving average of the weights.")
    workers: int | None = Field(default=None, ge=1, le=64, description="Data-parallel workers; null: the deployment's.")

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("exactly one of `steps` and `epochs` is required")
        return self

    @model_validator(mode="after")
    def _options_that_work_together(self) -> Self:
        if self.base_precision == "fp8" and self.training_type is TrainingType.FULL:
            raise ValueError("`base_precision` can be fp8 for a LoRA only")
        if self.guidance[0] > self.guidance[1]:
            raise ValueError("`guidance` must be a range whose first value is not above the second")
        if (self.workers or 1) > self.batch_size:
            raise ValueError("`workers` must not exceed `batch_size`")
        return self

    @property
    def folder(self) -> str:
        """The prefix of the storage paths of its files."""
        return f"{TRAININGS}{self.id}"
