"""LTX-Video: a T5 text encoder, a rectified-flow transformer, and a VAE of factor 32 in space and 8 in time."""

from pathlib import Path

from compute.pipelines.config import ModelConfig
from compute.pipelines.families import Activation, Family
from compute.pipelines.loading.weights import local_folder, reading_ahead
from compute.pipelines.native import NativeSize
from compute.pipelines.own_models import tiny_model

__all__ = ["FAMILY"]


def _prepare(config: ModelConfig, source: str | Path) -> Activation:
    with reading_ahead(local_folder(source, config.revision)):
        from compute.pipelines.ltx.model import prepare_ltx_video

        return prepare_ltx_video(config, source)


def _build_tiny(folder: Path) -> None:
    from compute.pipelines.tiny.ltx import save_tiny_ltx

    save_tiny_ltx(folder)


# A clip has even sides; its frames are brought from the model's grid to the size that was asked for.
FAMILY = Family(
    name="ltx-video",
    size_multiple=2,
    grid=32,
    prepare=_prepare,
    tiny_name="tiny-ltx-video",
    tiny=tiny_model(_build_tiny),
    native_size=NativeSize(most_pixels=1280 * 768),
    role="video",
)
