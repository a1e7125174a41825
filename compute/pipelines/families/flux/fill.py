"""FLUX.1 Fill: FLUX.1's parts, with a transformer that reads a masked image and its mask in addition to the noise."""

from pathlib import Path

from compute.pipelines.config import ModelConfig
from compute.pipelines.families import Activation, Family
from compute.pipelines.loading.weights import local_folder, reading_ahead
from compute.pipelines.native import NativeSize
from compute.pipelines.own_models import tiny_model

__all__ = ["FAMILY"]


def _prepare(config: ModelConfig, source: str | Path) -> Activation:
    with reading_ahead(local_folder(source, config.revision)):
        from compute.pipelines.flux.fill import FillInputs
        from compute.pipelines.flux.model import prepare_flux

        return prepare_flux(config, source, FillInputs)


def _build_tiny(folder: Path) -> None:
    from compute.pipelines.tiny.flux import save_tiny_flux_fill

    save_tiny_flux_fill(folder)


FAMILY = Family(
    name="flux-fill",
    size_multiple=16,
    grid=16,
    prepare=_prepare,
    tiny_name="tiny-flux-fill",
    tiny=tiny_model(_build_tiny),
    native_size=NativeSize(most_pixels=2 * 1024 * 1024),
    role="fill",
)
