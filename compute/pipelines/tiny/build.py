"""Builds tiny models of the real architectures, with random weights: all code paths are the real ones."""

import os
from pathlib import Path

from compute.lora.check import ModelCard, read_model_card
from compute.pipelines.families import Family, families, get_family
from compute.pipelines.own_models import ensure_current

__all__ = ["build_tiny", "build_tiny_flux", "ensure_tiny", "write_tiny_lora"]


def build_tiny(folder: Path) -> list[Path]:
    """Build every family's tiny model under `folder`; the folders of the models, existing ones included."""
    return [ensure_tiny(family, folder) for family in families().values()]


def ensure_tiny(family: Family, models_root: Path) -> Path:
    """The folder of this family's tiny model, built if it is missing, or was built by an earlier version."""
    return ensure_current(models_root / family.tiny_name, family.tiny)


def build_tiny_flux(folder: Path) -> None:
    """Build the tiny FLUX.1-dev into `folder` (a few MB, about a second). The same weights every time."""
    ensure_current(folder, get_family("flux").tiny)


def write_tiny_lora(path: Path, model: Path | ModelCard, *, rank: int = 4, seed: int = 0, scale: float = 1.0) -> Path:
    """Write a LoRA in diffusers' layout that fits `model`, for tests and demonstrations.

    It adapts the attention projections of every block. At weight 1 and scale 1 the change is as large as the
    layers themselves in a tiny model, so it is clearly visible.

    Args:
        path: The .safetensors file to write; its folder is created.
        model: The folder of a diffusers model, or its card.
        rank: Rank of every layer's update.
        seed: Different seeds give different LoRAs; the same seed gives the same bytes.
        scale: Size of the update relative to a layer of unit gain.

    Raises:
        ValueError: `model` is a folder without a FLUX transformer.
    """
    import numpy as np
    from safetensors.numpy import save_file

    card = model if isinstance(model, ModelCard) else read_model_card(model)
    if card is None:
        raise ValueError(f"{model} has no FLUX transformer/config.json")
    random = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for name, (in_features, out_features) in card.linears().items():
        if not name.rsplit(".", 1)[-1].startswith(("to_q", "to_k", "to_v", "add_")) and not name.endswith("to_out.0"):
            continue
        down = random.standard_normal((rank, in_features)) / in_features**0.5
        up = random.standard_normal((out_features, rank)) * (scale / rank**0.5)
        tensors[f"transformer.{name}.lora_A.weight"] = down.astype(np.float32)
        tensors[f"transformer.{name}.lora_B.weight"] = up.astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(tensors, unfinished, metadata={"format": "pt"})
    unfinished.replace(path)
    return path
