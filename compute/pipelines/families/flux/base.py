"""FLUX.1: two text encoders, a rectified-flow transformer and a VAE of factor 8 whose latents are packed 2x2."""

import shutil
from pathlib import Path

from compute.pipelines.config import ModelConfig
from compute.pipelines.families import Activation, Family
from compute.pipelines.loading.weights import local_folder, reading_ahead
from compute.pipelines.native import NativeSize
from compute.pipelines.own_models import OwnModel, tiny_model

__all__ = ["FAMILY"]

_DEMO = Path(__file__).parents[2] / "demo_flux"
"""`tools/demo_model` makes it."""


def _prepare(config: ModelConfig, source: str | Path) -> Activation:
    with reading_ahead(local_folder(source, config.revision)):
        from compute.pipelines.flux.model import prepare_flux

        return prepare_flux(config, source)


def _build_tiny(folder: Path) -> None:
    from compute.pipelines.tiny.flux import save_tiny_flux

    save_tiny_flux(folder)


def _build_demo(folder: Path) -> None:
    shutil.copytree(_DEMO, folder, dirs_exist_ok=True)


FAMILY = Family(
    name="flux",
    size_multiple=16,
    grid=16,
    prepare=_prepare,
    tiny_name="tiny-flux",
    tiny=tiny_model(_build_tiny),
    native_size=NativeSize(most_pixels=2 * 1024 * 1024),
    demo_name="demo-flux",
    demo=OwnModel(_build_demo, (_DEMO,)),
)
