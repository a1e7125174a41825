"""Validation of storage paths: one rule for all stores."""

import unicodedata

from compute.errors import InvalidInput

__all__ = ["BIN", "LORAS", "MAX_PATH_CHARACTERS", "RESERVED_PREFIX", "clean_path", "clean_prefix"]

MAX_PATH_CHARACTERS = 512
# S3 allows keys of 1024 bytes; the rest is left to the operator's own prefix.
MAX_BYTES = 900
# The longest file name of the usual file systems.
MAX_SEGMENT_BYTES = 255

LORAS = "loras/"
"""The folder of LoRA files; tasks name them by their paths below it."""

BIN = "bin/"
"""The folder of deleted files; nothing in it is served."""

RESERVED_PREFIX = ".compute-"
"""Names with this prefix are reserved for the stores themselves (files that are still being written)."""


def clean_path(path: str, *, field: str = "path") -> str:
    """The normal form (Unicode NFC) of a relative, slash-separated storage path.

    Raises:
        InvalidInput: the path is empty, absolute, too long, or has a segment that no store can keep.
            `field` names the part of the request that held it.
    """
    # Before anything that takes time with its length.
    if len(path) > 2 * MAX_PATH_CHARACTERS:
        raise _too_long(field)
    cleaned = unicodedata.normalize("NFC", path)
    if not cleaned:
        raise InvalidInput("A storage path cannot be empty.", field=field)
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in cleaned):
        raise InvalidInput("A storage path cannot hold control characters.", field=field)
    if "\\" in cleaned:
        raise InvalidInput("A storage path uses '/', never '\\'.", field=field)
    if len(cleaned) > MAX_PATH_CHARACTERS or len(cleaned.encode()) > MAX_BYTES:
        raise _too_long(field)
    for segment in cleaned.split("/"):
        _check_segment(segment, field)
    return cleaned


def clean_prefix(prefix: str, *, field: str = "prefix") -> str:
    """The normal form of a key prefix: empty (everything), a path, or a path and a final slash.

    Raises:
        InvalidInput: as `clean_path`.
    """
    if not prefix:
        return ""
    if prefix.endswith("/"):
        return clean_path(prefix[:-1], field=field) + "/"
    return clean_path(prefix, field=field)


def _too_long(field: str) -> InvalidInput:
    return InvalidInput(
        f"A storage path is at most {MAX_PATH_CHARACTERS} characters and {MAX_BYTES} bytes long.", field=field
    )


def _check_segment(segment: str, field: str) -> None:
    if not segment:
        raise InvalidInput("A storage path is relative and has no empty segment ('//').", field=field)
    if segment in {".", ".."}:
        raise InvalidInput("A storage path cannot hold '.' or '..' segments.", field=field)
    if len(segment.encode()) > MAX_SEGMENT_BYTES:
        raise InvalidInput(f"A segment of a storage path is at most {MAX_SEGMENT_BYTES} bytes long.", field=field)
    if segment.startswith(RESERVED_PREFIX):
        raise InvalidInput(f"Names that start with '{RESERVED_PREFIX}' are reserved.", field=field)
