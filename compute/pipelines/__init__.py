"""Warm diffusion pipelines. Importing this package loads no model library; `load` does."""

from pathlib import Path

from compute.pipelines.config import ModelConfig, check_size, resolve_model, size_multiple
from compute.pipelines.families import get_family
from compute.tasks.protocol import ImageModel

__all__ = ["ModelConfig", "check_size", "load", "resolve_model", "size_multiple"]


def load(config: ModelConfig, models_root: Path) -> ImageModel:
    """Load the configured model and keep it warm: seconds for a tiny model, minutes for a real one.

    Not safe for concurrent use: the caller holds a lock around `generate`.

    Raises:
        NotFound: there is no such model.
        ValueError: the settings do not fit this machine (device, attention, offload).
    """
    return get_family(config.family).load(config, resolve_model(config, models_root))
