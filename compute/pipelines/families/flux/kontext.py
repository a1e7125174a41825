"""FLUX.1 Kontext: FLUX.1's parts, with weights that edit an image by an instruction."""

from pathlib import Path

from compute.pipelines.config import ModelConfig
from compute.pipelines.families import Activation, Family
from compute.pipelines.loading.weights import local_folder, reading_ahead
from compute.pipelines.native import NativeSize
from compute.pipelines.own_models import tiny_model

__all__ = ["FAMILY"]


def _prepare(config: ModelConfig, source: str | Path) -> Activation:
    with reading_ahead(local_folder(source, config.revision)):
        from compute.pipelines.flux.kontext import KontextInputs
        from compute.pipelines.flux.model import prepare_flux

        return prepare_flux(config, source, KontextInputs)


def _build_tiny(folder: Path) -> None:
    from compute.pipelines.tiny.flux import save_tiny_flux_kontext

    save_tiny_flux_kontext(folder)


FAMILY = Family(
    name="flux-kontext",
    size_multiple=16,
    grid=16,
    prepare=_prepare,
    tiny_name="tiny-flux-kontext",
    tiny=tiny_model(_build_tiny),
    native_size=NativeSize(most_pixels=2 * 1024 * 1024),
    role="edit",
)
