"""Checks a model's weight files, and reads them ahead into the page cache, before any library opens them.

Does not import torch: the files are read while Python is still importing the libraries, and the kernel keeps them for
every replica of the machine.
"""

import json
import logging
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["check_weights", "local_folder", "reading_ahead", "weight_files"]

_log = logging.getLogger(__name__)
_CHUNK = 64 * 2**20
_LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors library itself."""


def local_folder(source: str | Path, revision: str | None) -> Path | None:
    """The local folder of a model, a folder itself or a repository fetched before; does not use the network."""
    if isinstance(source, Path):
        return source
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source, "model_index.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def weight_files(folder: Path) -> list[Path]:
    """The .safetensors files of a diffusers folder's parts, in the order of their names."""
    return sorted(folder.glob("*/*.safetensors"))


@contextmanager
def reading_ahead(folder: Path | None) -> Iterator[None]:
    """Let the kernel read the weights into its page cache while the body runs; without a folder, do nothing.

    Reading waits for the disk and importing for the processor, so that together they take as long as the slower one.
    """
    leave = threading.Event()
    reader = threading.Thread(target=_read_ahead, args=(folder, leave), name="reading weights", daemon=True)
    if folder is not None:
        reader.start()
    try:
        yield
    finally:
        # From here on the loader reads in its own order; a half-read file goes on in the kernel.
        leave.set()


def _read_ahead(folder: Path, leave: threading.Event) -> None:
    for file in weight_files(folder):
        try:
            _announce(file, leave)
        except OSError as error:
            # The loader will read the same file, and its error names the part.
            _log.debug("cannot read %s ahead: %s", file, error)


def _announce(file: Path, leave: threading.Event) -> None:
    with file.open("rb") as opened:
        size = file.stat().st_size
        for start in range(0, size, _CHUNK):
            if leave.is_set():
                return
            os.posix_fadvise(opened.fileno(), start, _CHUNK, os.POSIX_FADV_WILLNEED)


def check_weights(folder: Path) -> None:
    """Refuse files that are cut short or lack a shard, before minutes are spent on loading the others.

    Raises:
        OSError: a file is damaged or missing; the message names it.
    """
    for index in sorted(folder.glob("*/*.safetensors.index.json")):
        for shard in _shards(index):
            if not (index.parent / shard).is_file():
                raise FileNotFoundError(f"{index.parent / shard} is missing; {index.name} names it")
    for file in weight_files(folder):
        expected = _expected_size(file)
        if file.stat().st_size != expected:
            raise OSError(f"{file} is damaged: {file.stat().st_size} bytes, its header says {expected}")


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise OSError(f"{index} is damaged: {error}") from error


def _expected_size(file: Path) -> int:
    """Bytes of a .safetensors file according to its header: eight, the header, and the tensors."""
    with file.open("rb") as opened:
        try:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > _LONGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(opened.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (struct.error, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
            raise OSError(f"{file} is damaged: {error}") from error
    return 8 + int(length) + max(ends, default=0)
