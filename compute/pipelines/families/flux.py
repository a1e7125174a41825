"""FLUX.1: two text encoders, a rectified-flow transformer and a VAE of factor 8 whose latents are packed 2x2."""

from pathlib import Path

from compute.pipelines.config import ModelConfig
from compute.pipelines.families import Family
from compute.tasks.protocol import ImageModel

__all__ = ["FAMILY"]


def _load(config: ModelConfig, source: str | Path) -> ImageModel:
    from compute.pipelines.flux import load_flux

    return load_flux(config, source)


def _build_tiny(folder: Path) -> None:
    from compute.pipelines.tiny_flux import save_tiny_flux

    save_tiny_flux(folder)


FAMILY = Family(name="flux", size_multiple=16, load=_load, tiny_name="tiny-flux", build_tiny=_build_tiny)
