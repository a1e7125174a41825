"""Segmentation by rembg's neural networks, from local files. Nothing is ever downloaded."""

import importlib
import threading
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from compute.errors import InvalidInput, TaskFailed

__all__ = ["FOLDER", "model_files", "rembg_segmenter"]

Bytes = NDArray[np.uint8]

FOLDER = "rembg"
_FIELD = "provider_config.rembg_model"
_SAM = ("sam_vit_b_01ec64.encoder.onnx", "sam_vit_b_01ec64.decoder.onnx")
_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class RembgSegmenter:
    """One loaded network, safe for several threads, like ONNX Runtime's sessions."""

    session: Any
    side: int = 1024
    """The largest input that any of these networks takes."""

    def coarse(self, pixels: Bytes) -> Bytes:
        try:
            # The networks' outputs are stretched from their least to their greatest value, which may be equal.
            with np.errstate(invalid="raise", divide="raise"):
                masks = self.session.predict(Image.fromarray(pixels))
        except FloatingPointError:
            return np.zeros(pixels.shape[:2], np.uint8)
        union = masks[0].convert("L")
        # The one for clothes has a mask for each kind of garment.
        for mask in masks[1:]:
            union = ImageChops.lighter(union, mask.convert("L"))
        return np.asarray(union, np.uint8)


def model_files(model: str) -> tuple[str, ...]:
    """The files of a model, relative to the models folder."""
    return tuple(f"{FOLDER}/{name}" for name in (_SAM if model == "sam" else (f"{model}.onnx",)))


def rembg_segmenter(model: str, models_root: Path | None) -> RembgSegmenter:
    """The model, loaded once per process.

    Raises:
        InvalidInput: rembg is not installed, or the model's file is missing.
        TaskFailed: the file is damaged, or not a model of this kind.
    """
    if find_spec("rembg") is None or find_spec("onnxruntime") is None:
        raise InvalidInput(f"The model {model} needs rembg, which is not installed on the image workers.", field=_FIELD)
    names = model_files(model)
    files = tuple(models_root / name for name in names) if models_root is not None else ()
    missing = names[0] if not files else next((n for n, f in zip(names, files, strict=True) if not f.is_file()), None)
    if missing is not None:
        detail = (
            f"The model {model} is not installed on the image workers: there is no {missing} below their models folder."
        )
        raise InvalidInput(detail, field=_FIELD)
    with _loading:
        return _load(model, files)


@cache
def _load(model: str, files: tuple[Path, ...]) -> RembgSegmenter:
    onnxruntime = importlib.import_module("onnxruntime")
    session_class: Any = _session_classes()[model]
    found = files if len(files) > 1 else files[0]

    class Local(session_class):  # type: ignore[misc]
        """Reads the local file; rembg would look elsewhere and then download one."""

        @classmethod
        def download_models(cls, *args: Any, **kwargs: Any) -> Any:
            return found

    try:
        return RembgSegmenter(Local(model, onnxruntime.SessionOptions(), providers=["CPUExecutionProvider"]))
    except Exception as error:
        # ONNX Runtime has an error class for each of its status codes, and no common base.
        raise TaskFailed(f"The segmentation model {model} could not be loaded: {error}") from error


def _session_classes() -> dict[str, Any]:
    """rembg's session classes by model. They import its matting, which is not used here: numba would compile it for a
    minute or two, in every process that finds no cache of it."""
    config = importlib.import_module("numba").config
    before, config.DISABLE_JIT = config.DISABLE_JIT, 1
    try:
        classes: dict[str, Any] = importlib.import_module("rembg.sessions").sessions
        return classes
    finally:
        config.DISABLE_JIT = before
