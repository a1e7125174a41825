"""Finds or downloads the diffusers folder of a base model."""

from pathlib import Path

from compute.errors import InvalidInput, NotFound
from compute.pipelines.config import ModelConfig, resolve_model
from compute.pipelines.own_models import ensure_current, tiny_model
from compute.training.models import get_family
from compute.training.spec import ModelSpec

__all__ = ["base_folder"]


def base_folder(model: ModelSpec, models_root: Path) -> Path:
    """Return the folder of the model's files; a model named by its repository is downloaded once.

    Raises:
        InvalidInput: the model was not found.
        OSError: it cannot be downloaded.
    """
    family = get_family(model.family)
    if family.build_tiny is not None and model.source == family.tiny_name:
        return ensure_current(models_root / family.tiny_name, tiny_model(family.build_tiny))
    try:
        found = resolve_model(ModelConfig(model=model.source), models_root)
    except NotFound as error:
        raise InvalidInput(error.detail, field="base_model_path") from error
    if isinstance(found, Path):
        return found
    from diffusers import DiffusionPipeline

    return Path(DiffusionPipeline.download(found, revision=model.revision, use_safetensors=True))
