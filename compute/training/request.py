"""Checks a request for a training, as far as that needs no network, and turns it into a spec."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from compute.errors import InvalidInput
from compute.schemas.training import MAX_IMAGES, TrainingTaskCreate, TrainingType
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
    """Return the spec of a request, with the images as the request names them. `models` are `Settings.training_models`.

    Raises:
        InvalidInput: it cannot be done: an unknown model or transform, no images, options that exclude each other.
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
    """Return the part of a request that a row stores in addition to the spec: fields under the API's names, without the
    images.

    Lists are made of it, so it is small.
    """
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
    """Return a unique file name made of the trigger word."""
    plain = unicodedata.normalize("NFKD", trigger_word).encode("ascii", "ignore").decode()
    word = re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")[:_NAME_CHARACTERS].strip("-")
    return f"{word or 'lora'}-{training_id.hex[-6:]}"


def _check_data(request: TrainingTaskCreate) -> None:
    if request.source_images and request.dataset_url:
        raise InvalidInput("Only one of `source_images` and `dataset_url` is allowed.", field="dataset_url")
    if not request.source_images and not request.dataset_url:
        raise InvalidInput(
            f"Field `source_images` must have 1 to {MAX_IMAGES} images, unless `dataset_url` names a zip file of them.",
            field="source_images",
        )


def _check_options(request: TrainingTaskCreate) -> None:
    if request.epochs is not None and "steps" in request.model_fields_set:
        raise InvalidInput("Only one of `steps` and `epochs` is allowed.", field="epochs")
    if request.base_precision == "fp8" and request.training_type is TrainingType.FULL:
        raise InvalidInput(
            "Field `base_precision` can be fp8 for a LoRA only; a FULL training has no frozen base.",
            field="base_precision",
        )
    low, high = _given(request.guidance)
    if low > high:
        raise InvalidInput(
            "Field `guidance` must be a range whose first value is not above the second.", field="guidance"
        )
    if (request.workers or 1) > _given(request.batch_size):
        raise InvalidInput("Field `workers` must not exceed `batch_size`.", field="workers")


def _given(value: Any) -> Any:
    """Assert that a field is set: null has become the default."""
    assert value is not None  # noqa: S101 - the request's model ensures it
    return value
