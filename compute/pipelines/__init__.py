"""Warm diffusion pipelines. Importing this package loads no model library; `prepare` and `load` do."""

from pathlib import Path

from compute.pipelines.config import ModelConfig, check_size, resolve_model, size_multiple
from compute.pipelines.families import Activation, get_family
from compute.worker.protocol import StagedModel

__all__ = ["Activation", "ModelConfig", "check_size", "load", "prepare", "resolve_model", "size_multiple"]


def prepare(config: ModelConfig, models_root: Path) -> Activation:
    """Everything about the configured model that needs no device memory: libraries imported, weights in host memory.

    Raises:
        NotFound: there is no such model.
        OSError: its files are missing, damaged or cannot be fetched.
        ValueError: the settings do not fit this machine (device, attention, offload).
    """
    return get_family(config.family).prepare(config, resolve_model(config, models_root))


def load(config: ModelConfig, models_root: Path) -> StagedModel:
    """Load the configured model onto its device: seconds for a tiny model, minutes for a real one.

    Raises what `prepare` raises.
    """
    return prepare(config, models_root)()
