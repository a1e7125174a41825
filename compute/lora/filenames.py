"""Folders and names of LoRA files that are valid in every store."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from pathlib import PurePosixPath

from compute.errors import InvalidInput
from compute.storage.paths import LORAS, clean_path

__all__ = ["FORMATS", "UNSORTED", "folder_of", "safe_name", "split_name", "stored_lora", "versions"]

FORMATS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
UNSORTED = "no_type_provided"
"""The folder of files without an entity type."""

MAX_NAME_BYTES = 120
MAX_VERSIONS = 1000
_MOST_READ = 1000
"""Characters of a client's name that are used: normalising marks takes the square of their number."""

_FOLDERS = {
    "identities": "identities",
    "identity": "identities",
    "subject": "identities",
    "products": "products",
    "product": "products",
    "styles": "styles",
    "style": "styles",
    "clothes": "clothes",
    "faces": "faces",
    "face": "faces",
    UNSORTED: UNSORTED,
    "": UNSORTED,
}
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?\Z", re.IGNORECASE)


def stored_lora(path: str, *, field: str) -> str:
    """The storage path of a LoRA, given by its path below the folder of LoRAs, or by its whole path.

    Raises:
        InvalidInput: it is not a storage path.
    """
    cleaned = clean_path(path, field=field)
    return cleaned if cleaned.startswith(LORAS) else LORAS + cleaned


def folder_of(entity_type: str | None, *, field: str = "entity_type") -> str:
    """The folder of an entity type in any spelling: `SUBJECT`, `identities` and `Identity` are the same.

    Raises:
        InvalidInput: there is no such type.
    """
    folder = _FOLDERS.get((entity_type or "").strip().lower())
    if folder is None:
        raise InvalidInput("One of clothes, faces, identities, products, styles.", field=field)
    return folder


def split_name(filename: str, *, field: str = "file") -> tuple[str, str]:
    """Split a client's file name: its last part without the extension, and the extension in lower case.

    Raises:
        InvalidInput: it does not end in one of `FORMATS`.
    """
    last = filename.replace("\\", "/").rpartition("/")[2].strip()
    extension = PurePosixPath(last).suffix.lower()
    if extension not in FORMATS:
        raise InvalidInput(f"A LoRA file ends in one of {', '.join(FORMATS)}.", field=field)
    return last[: -len(extension)], extension


def safe_name(stem: str) -> str:
    """A file name, without extension, that is safe for every store, shell and operating system.

    Letters, digits and marks of any script stay, and `.`, `-` and `_` between them; at most 120 bytes of UTF-8.
    """
    normal = unicodedata.normalize("NFKC", stem[:_MOST_READ].encode("utf-8", "replace").decode())
    kept = "".join(one if one in ".-" or unicodedata.category(one)[0] in "LNM" else "_" for one in normal)
    plain = re.sub(r"_+", "_", re.sub(r"\.+", ".", kept))
    short = plain.encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip("._-")
    while short.lower().endswith(FORMATS):
        short = short.rpartition(".")[0].strip("._-")
    if not short:
        # No character can stay; two such names still get different results.
        return f"lora_{hashlib.sha256(normal.encode()).hexdigest()[:8]}"
    return f"lora_{short}" if _DEVICES.match(short) else short


def versions(name: str) -> Iterator[str]:
    """Yield `name`, `name_v2`, `name_v3` and so on."""
    yield name
    for number in range(2, MAX_VERSIONS + 1):
        yield f"{name}_v{number}"
