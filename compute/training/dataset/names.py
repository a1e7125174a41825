"""Decodes the names in a zip archive, whatever program wrote them.

The format defines UTF-8 (a flag, or Info-ZIP's extra field) and code page 437. In practice names are in the code page
of the machine that made the archive; all names of one archive share it.
"""

import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Sequence

from compute.training.dataset.encodings import legacy_encoding

__all__ = ["ArchiveNames", "normal_path"]

_UTF_8_FLAG = 0x800
_UNICODE_PATH = 0x7075
_MOST_EVIDENCE = 2**16
_MOST_CHARACTERS = 4096


def normal_path(path: str) -> str:
    """Return a path in normal form C, with / between folders. A path far longer than any accepted one is returned
    unchanged."""
    # The time to normalise grows with the square of a run of accents.
    composed = unicodedata.normalize("NFC", path) if len(path) <= _MOST_CHARACTERS else path
    # Windows' separator is replaced after decoding, because its byte is also part of some characters.
    return composed.replace("\\", "/")


class ArchiveNames:
    """Paths of entries, with / between folders and in Unicode's normal form C, which macOS does not write and metadata
    files do."""

    def __init__(self, infos: Sequence[zipfile.ZipInfo]) -> None:
        evidence = _evidence(_raw(info) for info in infos if _stated(info) is None)
        self._encoding = legacy_encoding(evidence, names=True) if evidence else None

    def of(self, info: zipfile.ZipInfo) -> str:
        """Return the path; an undecodable one becomes a unique neutral path."""
        name = _stated(info)
        if name is None:
            raw = _raw(info)
            try:
                name = raw.decode(self._encoding or "cp437")
            except UnicodeDecodeError:
                name = raw.decode("cp437")
        return normal_path(name)

    def is_read(self, info: zipfile.ZipInfo) -> bool:
        """Return whether the path was decoded with certainty."""
        if _stated(info) is not None:
            return True
        try:
            return self._encoding is not None and bool(_raw(info).decode(self._encoding))
        except UnicodeDecodeError:
            return False


def _evidence(names: Iterable[bytes]) -> bytes:
    """Join whole names for the detection, as many as needed: half a character would fit no encoding."""
    taken, size = list[bytes](), 0
    for name in names:
        if taken and size + len(name) > _MOST_EVIDENCE:
            break
        taken.append(name)
        size += len(name)
    return b"\n".join(taken)


def _stated(info: zipfile.ZipInfo) -> str | None:
    """The name if the archive states its encoding, or if it is valid UTF-8."""
    if info.flag_bits & _UTF_8_FLAG:
        return info.orig_filename
    if (name := _unicode_path(info)) is not None:
        return name
    try:
        return _raw(info).decode()
    except UnicodeDecodeError:
        return None


def _raw(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("cp437")


def _unicode_path(info: zipfile.ZipInfo) -> str | None:
    """The name in Info-ZIP's extra field, valid while its checksum matches the entry's name."""
    extra = info.extra
    while len(extra) >= 4:
        kind, size = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        field = extra[4 : 4 + size]
        if (
            kind == _UNICODE_PATH
            and field[:1] == b"\1"
            and int.from_bytes(field[1:5], "little") == zlib.crc32(_raw(info))
        ):
            try:
                return field[5:].decode()
            except UnicodeDecodeError:
                return None
        extra = extra[4 + size :]
    return None
