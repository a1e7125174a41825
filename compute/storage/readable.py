"""The access rule for stored files: one rule for reading, listing, removing, linking and naming in a request.

Not accessible are:
    loras/                             used by name in tasks, never read as files
    bin/                               files removed by an administrator
    training/{id}/dataset, cache, run  working files of a training

The API key opens everything else. Only the response of a training links to its LoRA, with `model=True`.
"""

import re

from compute.errors import InvalidInput
from compute.storage.paths import BIN, LORAS, clean_path

__all__ = ["check_readable", "is_hidden", "why_hidden"]

# Some file systems do not tell upper case from lower case.
_INTERNAL = re.compile(r"training/[^/]+/(dataset|cache|run)/")
_REASONS = {LORAS: "LoRAs are used by name", BIN: "it holds what was removed"}


def why_hidden(path: str) -> str | None:
    """The reason why a clean path and everything below it may not be read; None if it may."""
    folded = f"{path.casefold()}/"
    for folder, reason in _REASONS.items():
        if folded.startswith(folder):
            return f"Folder {folder} is not readable: {reason}."
    if internal := _INTERNAL.match(folded):
        return f"Folder {internal[0]} is not readable: only its training uses it."
    return None


def is_hidden(path: str) -> bool:
    return why_hidden(path) is not None


def check_readable(path: str, *, field: str) -> str:
    """The normal form of a storage path that a request names.

    Raises:
        InvalidInput: it is not a storage path, or may not be read; `field` names the part of the request.
    """
    cleaned = clean_path(path, field=field)
    if (reason := why_hidden(cleaned)) is not None:
        raise InvalidInput(reason, field=field)
    return cleaned
