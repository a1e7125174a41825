"""Entries of a zip archive: selects the files that count, and refuses archives with unsafe entries."""

import re
import stat
import unicodedata
import zipfile
from collections.abc import Sequence
from typing import NoReturn

from compute.errors import InvalidInput
from compute.training.dataset.names import ArchiveNames

__all__ = ["FIELD", "MOST_NAME", "natural_order", "quoted", "refuse", "safe_entries"]

FIELD = "dataset_url"
MOST_NAME = 512
"""Most characters of a path."""

_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_LOCAL_HEADER = 30
_DRIVE = re.compile(r"[A-Za-z]:")
_NUMBERS = re.compile(r"([0-9]+)")


def safe_entries(infos: Sequence[zipfile.ZipInfo], names: ArchiveNames) -> dict[str, zipfile.ZipInfo]:
    """Return the files that count, by path: without folders, hidden files and system files of macOS and Windows.

    Ignored entries are checked as well: no archive has an unsafe path by accident.

    Raises:
        InvalidInput: a path leads outside the folder or occurs twice, an entry is a link, a device or encrypted, or
            entries share bytes.
    """
    _check_overlap(infos)
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        path = names.of(info)
        segments = _segments(path, info)
        if path.endswith("/") or _passed_over(segments):
            continue
        name = "/".join(segments)
        if info.flag_bits & _ENCRYPTED:
            refuse(f"{quoted(name)} is encrypted; send an archive without a password")
        if name in found:
            refuse(f"{quoted(name)} is in the archive twice")
        found[name] = info
    return found


def _check_overlap(infos: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse entries that share bytes, which make zip bombs that no entry's ratio reveals (Fifield 2019)."""
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            refuse(f"{quoted(info.filename)} overlaps with another entry, as only in a zip bomb")
        end = info.header_offset + _LOCAL_HEADER + info.compress_size


def _segments(name: str, info: zipfile.ZipInfo) -> list[str]:
    """Split the path of an entry into checked segments."""
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in name):
        refuse(f"the name {quoted(name)} has control characters in it")
    if len(name) > MOST_NAME:
        refuse(f"the name {quoted(name)} has more than {MOST_NAME} characters")
    segments = name.split("/")
    if not name or name.startswith("/") or _DRIVE.match(name) or ".." in segments:
        refuse(f"the path {quoted(name)} leads out of the archive's folder")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        refuse(f"{quoted(name)} is a symbolic link")
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        refuse(f"{quoted(name)} is a device, not a file")
    return [segment for segment in segments if segment not in {"", "."}]


def _passed_over(segments: Sequence[str]) -> bool:
    hidden = any(segment.startswith(".") or segment == "__MACOSX" for segment in segments)
    return hidden or not segments or segments[-1].casefold() in _SYSTEM_FILES


def natural_order(name: str) -> list[list[str | int]]:
    """Sort key for paths: folder by folder, numbers by value and letters without regard to case."""
    return [
        [int(part) if part.isascii() and part.isdigit() else part for part in _NUMBERS.split(segment.casefold())]
        for segment in name.split("/")
    ]


def quoted(name: str) -> str:
    """Quote a name from an archive for a message."""
    return repr(name if len(name) <= 80 else f"{name[:79]}…")


def refuse(reason: str) -> NoReturn:
    """Refuse the archive.

    Raises:
        InvalidInput: always.
    """
    raise InvalidInput(reason, field=FIELD)
