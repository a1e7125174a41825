"""Diffusion pipelines. Importing this package loads no model library; `prepare` and `load` do."""

from pathlib import Path

from compute.pipelines.config import ModelConfig, check_size, resolve_model, size_multiple
from compute.pipelines.families import Activation, get_family
from compute.worker.protocol import StagedModel

__all__ = ["Activation", "ModelConfig", "check_size", "load", "prepare", "resolve_model", "size_multiple"]


def prepare(config: ModelConfig, models_root: Path) -> Activation:
    """Prepare the configured model without device memory: import libraries, load weights into host memory.

    Calling the result, once, brings the model to its device.

    Raises:
        NotFound: there is no such model.
        OSError: its files are missing, damaged or cannot be fetched.
        ValueError: the settings do not fit this machine (device, attention, offload).
    """
    return get_family(config.family).prepare(config, resolve_model(config, models_root))


def load(config: ModelConfig, models_root: Path) -> StagedModel:
    """Load the configured model onto its device: seconds for a tiny model, minutes for a real one.

    Raises what `prepare` raises.

    Example:
        model = load(ModelConfig(model="tiny-flux"), models_root=Path("models"))
        prepared = model.prepare(request)
        image = model.decode(model.denoise(prepared, lambda done, total: None))
    """
    return prepare(config, models_root)()
