"""Loads the parts of a diffusers pipeline into host memory, and refuses incomplete ones.

The libraries' own loaders do the work: they build modules without initialising them and map files whose number format
fits, so that replicas of one machine share one copy in the page cache, and moving to a device reads each byte once.
They accept a file that lacks a tensor: transformers initialises it at random, diffusers leaves it without data. Here
that is an error.
"""

import json
import logging
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from compute.pipelines.loading.weights import check_weights

__all__ = ["load_parts", "with_most_room"]

_log = logging.getLogger(__name__)
_LIBRARIES = ("diffusers", "transformers")


def load_parts(source: str | Path, *, dtype: torch.dtype, revision: str | None = None) -> dict[str, Any]:
    """Load the parts named by the model's model_index.json, as arguments for its pipeline class.

    No device memory is taken. Tensors stay views of the mapped files if those are in `dtype` already.

    Raises:
        OSError: a file is missing, damaged or incomplete, or cannot be fetched.
        ValueError: model_index.json is damaged or asks for code that is not the libraries' own.
    """
    began = time.perf_counter()
    if isinstance(source, Path):
        folder = source
    else:
        folder = Path(DiffusionPipeline.download(source, revision=revision, use_safetensors=True))
    check_weights(folder)
    parts = {
        name: _load_part(folder / name, library, class_name, dtype)
        for name, (library, class_name) in _index(folder).items()
    }
    _log.info("loaded %s in %.1f s", folder.name, time.perf_counter() - began)
    return parts


def with_most_room(device: torch.device) -> torch.device:
    """The visible CUDA device with the most free memory, unless `device` names one.

    Ray shows a replica its own device only; a standby sees all of them, and takes that of the replica that died.
    """
    if str(device) != "cuda" or torch.cuda.device_count() < 2:
        return device
    free = [torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())]
    return torch.device("cuda", free.index(max(free)))


def _index(folder: Path) -> dict[str, tuple[str, str]]:
    """Part names to (library, class), without absent parts."""
    index = folder / "model_index.json"
    try:
        entries = json.loads(index.read_text())
        listed = {name: tuple(entry) for name, entry in entries.items() if isinstance(entry, list) and len(entry) == 2}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{index} is damaged: {error}") from error
    parts = {name: (library, class_name) for name, (library, class_name) in listed.items() if library is not None}
    for name, (library, _) in parts.items():
        if library not in _LIBRARIES:
            raise ValueError(f"{index}: {name} comes from {library!r}; only {' and '.join(_LIBRARIES)} are loaded")
    return parts


def _load_part(folder: Path, library: str, class_name: str, dtype: torch.dtype) -> Any:
    part_class = getattr(import_module(library), class_name, None)
    if part_class is None:
        raise ValueError(f"{folder.parent / 'model_index.json'}: {library} has no {class_name}")
    if not issubclass(part_class, torch.nn.Module):
        return part_class.from_pretrained(folder, local_files_only=True)
    part, found = part_class.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    _refuse_incomplete(folder, part, found)
    return part


def _refuse_incomplete(folder: Path, part: torch.nn.Module, found: dict[str, Any]) -> None:
    missing = sorted(found["missing_keys"])
    if missing:
        raise OSError(f"{folder}: its files lack {len(missing)} tensors, among them {missing[0]}")
    if found["mismatched_keys"]:
        raise OSError(f"{folder}: tensors of another shape than its config.json says: {found['mismatched_keys']}")
    empty = [name for name, tensor in (*part.named_parameters(), *part.named_buffers()) if tensor.is_meta]
    if empty:
        raise OSError(f"{folder}: {len(empty)} tensors were left without data, among them {empty[0]}")
