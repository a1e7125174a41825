"""A request for a training: checked as far as that needs no network, and the spec that it becomes."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from compute.errors import InvalidInput
from compute.schemas.training import MAX_IMAGES, CaptioningStrategy, TrainingTaskCreate, TrainingType
from compute.settings import TrainableModel
from compute.training.dataset.transforms import parse_transforms
from compute.training.models import get_family
from compute.training.registry import base_model
from compute.training.spec import DataSpec, OptimizerSpec, SampleSpec, TrainingSpec

__all__ = ["default_output_name", "request_of", "spec_of"]

_COPIED = (
    "training_type",
    "entity_type",
    "trigger_word",
    "rank",
    "epochs",
    "batch_size",
    "gradient_accumulation",
    "save_every",
    "max_step_saves_to_keep",
    "seed",
    "bypass_guidance_embedding",
    "guidance",
    "timesteps",
    "weighting",
    "caption_dropout",
    "base_precision",
    "gradient_checkpointing",
    "compile",
    "ema_decay",
    "workers",
)
_NAME_CHARACTERS = 80


def spec_of(request: TrainingTaskCreate, training_id: UUID, models: Mapping[str, TrainableModel]) -> TrainingSpec:
    """The spec of a request, with its pictures as it names them. `models` are `Settings.training_models`.

    Raises:
        InvalidInput: it cannot be done: an unknown model or transform, no pictures, an option that another forbids.
    """
    _check_data(request)
    _check_options(request)
    model = base_model(_given(request.base_model_path), models, resolution=request.resolution)
    get_family(model.family).check_weighting(_given(request.weighting))
    values = request.model_dump(include=set(_COPIED))
    return TrainingSpec(
        id=training_id,
        output_name=request.output_name or default_output_name(request.trigger_word, training_id),
        model=model,
        data=DataSpec(
            images=tuple(_given(request.source_images)),
            archive=request.dataset_url,
            transforms=parse_transforms(request.preprocessing_transforms),
            captioning=_given(request.preprocessing_captioning_strategy),
            captioning_prompt=request.preprocessing_captioning_prompt,
        ),
        optimizer=OptimizerSpec(
            name=_given(request.optimizer),
            learning_rate=_given(request.learning_rate),
        ),
        samples=SampleSpec(
            prompts=tuple(_given(request.sample_prompts)),
            every=_given(request.sample_every),
            steps=_given(request.sample_steps),
        ),
        steps=None if request.epochs else request.steps,
        **values,
    )


def request_of(spec: TrainingSpec) -> dict[str, Any]:
    """What a row keeps of a request beside the spec: its fields under the names of the contract, without the pictures.
    It is what lists are made of, so it is small."""
    optimizer, samples, data = spec.optimizer, spec.samples, spec.data
    return {
        **spec.model_dump(mode="json", include=set(_COPIED) | {"output_name"}),
        "steps": spec.steps,
        "resolution": spec.model.resolution,
        "base_model_path": spec.model.name,
        "base_model": spec.model.source,
        "training_folder": spec.folder,
        "dataset_url": data.archive,
        "preprocessing_transforms": [one.model_dump(mode="json") for one in data.transforms] or None,
        "preprocessing_captioning_strategy": data.captioning.value,
        "preprocessing_captioning_prompt": data.captioning_prompt,
        "optimizer": optimizer.name,
        "learning_rate": optimizer.learning_rate,
        "sample_prompts": list(samples.prompts),
        "sample_every": samples.every,
        "sample_steps": samples.steps,
    }


def default_output_name(trigger_word: str, training_id: UUID) -> str:
    """A file name made of the trigger word, which no other training has."""
    plain = unicodedata.normalize("NFKD", trigger_word).encode("ascii", "ignore").decode()
    word = re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")[:_NAME_CHARACTERS].strip("-")
    return f"{word or 'lora'}-{training_id.hex[-6:]}"


def _check_data(request: TrainingTaskCreate) -> None:
    if request.source_images and request.dataset_url:
        raise InvalidInput("Give either source_images or dataset_url.", field="dataset_url")
    if not request.source_images and not request.dataset_url:
        raise InvalidInput(
            f"Give 1 to {MAX_IMAGES} pictures, or a zip file of them as dataset_url.", field="source_images"
        )
    if request.preprocessing_captioning_strategy is CaptioningStrategy.VISION:
        raise InvalidInput(
            "No vision provider is configured here; use trigger_only or filename.",
            field="preprocessing_captioning_strategy",
        )


def _check_options(request: TrainingTaskCreate) -> None:
    if request.epochs is not None and "steps" in request.model_fields_set:
        raise InvalidInput("Give either steps or epochs.", field="epochs")
    if request.base_precision == "fp8" and request.training_type is TrainingType.FULL:
        raise InvalidInput("All weights are learned; only a LoRA's frozen base can be fp8.", field="base_precision")
    low, high = _given(request.guidance)
    if low > high:
        raise InvalidInput("The range begins above its end.", field="guidance")
    if (request.workers or 1) > _given(request.batch_size):
        raise InvalidInput("Of more workers than batch_size some would have nothing to do.", field="workers")


def _given(value: Any) -> Any:
    """A field that null would have turned into its default."""
    assert value is not None  # noqa: S101 - the request's model sees to it
    return value
