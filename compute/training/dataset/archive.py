"""Unpacks untrusted zip archives of images and captions within limits.

No name from the archive is used for a file: images are numbered. Entries that are neither an image nor a caption are
never unpacked. Sizes are checked twice: as the archive claims them, so that most zip bombs are refused at once, and as
they come out of the decompressor, because the claims may be false.
"""

import errno
import io
import logging
import posixpath
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from compute.errors import InvalidInput
from compute.storage.files import disk_failure
from compute.training.dataset.captions import DAMAGED, clean_caption, read_metadata
from compute.training.dataset.encodings import decode_text
from compute.training.dataset.entries import FIELD, MOST_NAME, natural_order, quoted, refuse, safe_entries
from compute.training.dataset.images import Rejected
from compute.training.dataset.names import ArchiveNames, normal_path
from compute.training.spec import MAX_IMAGES

__all__ = ["ArchiveLimits", "ArchivedImage", "Unpacked", "unpack"]

_log = logging.getLogger(__name__)

_IMAGES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".mpo", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif"}
)
_CAPTIONS = (".txt", ".caption")
"""Suffixes of caption files; the first one that exists counts."""
_METADATA = "metadata.jsonl"
_ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"})
_OTHER_FORMATS = {
    b"\x1f\x8b": "a gzip file",
    b"7z\xbc\xaf": "a 7z file",
    b"Rar!": "a RAR file",
    b"\xfd7zXZ": "an xz file",
    b"<": "a web page or XML",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
}
# Python decompresses other methods without a bound: 4 KB of bzip2 can hold gigabytes.
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_UNREAD_NAME = "the encoding of its name is unknown; the image is used, but its name is not used as a caption"
_DIRECTORY_BYTES_PER_ENTRY = 256
_CHUNK = 2**18
_MOST_CAPTION_BYTES = 2**16
_MOST_METADATA_BYTES = 2**24
_RATIO_FLOOR = 64 * 2**20


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Limits of an archive.

    Attributes:
        total_bytes: Size of all unpacked files.
        entry_bytes: Size of one unpacked file.
        entries: Number of files and folders of any kind.
        images: Number of images.
        ratio: Unpacked bytes for each byte of the archive. It is checked above 64 MiB in all only, because images of
            one
            colour in an uncompressed format also shrink to next to nothing.
    """

    total_bytes: int = 16 * 2**30
    entry_bytes: int = 256 * 2**20
    entries: int = 4 * MAX_IMAGES
    images: int = MAX_IMAGES
    ratio: int = 100


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """A file that may be an image: its path in the archive, its unpacked file, and its caption from the archive."""

    name: str
    path: Path
    text: str | None


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The content of an archive: `images` in natural order (2 before 10); `others` are the unused files with
    reasons."""

    images: tuple[ArchivedImage, ...]
    others: tuple[Rejected, ...]


def unpack(archive: Path, folder: Path, limits: ArchiveLimits | None = None) -> Unpacked:
    """Unpack the images of a zip archive to the existing folder `folder`, with their captions.

    Files count as images by their suffix; their content is not checked yet. A caption is a .txt or .caption file of the
    same name next to an image, or its row in a metadata.jsonl ({"file_name", "text"}) in its folder or one above.
    Hidden
    files and system files of macOS and Windows are ignored. After an error, files written so far are left in `folder`.

    Raises:
        InvalidInput: it is not a zip archive, is damaged, encrypted, above a limit, has an unsafe or ambiguous name, or
            has no image. The message names the entry.
        StorageFailed: the disk is full or fails.
    """
    limits = limits or ArchiveLimits()
    try:
        raw = io.FileIO(archive)
    except OSError as error:
        raise disk_failure("reading", "the data set's archive", error) from error
    with _Bounded(raw, max(2**20, limits.entries * _DIRECTORY_BYTES_PER_ENTRY)) as file, _opened(file) as opened:
        names = ArchiveNames(opened.infolist())
        contents = _sorted(_entries(opened, names, limits), limits)
        budget = _Budget(limits, archive.stat().st_size)
        budget.check_claims(contents.images)
        source = _Source(opened, budget)
        rejected, texts = _captions(source, contents, limits.entries)
        images = []
        for number, (name, entry) in enumerate(contents.images.items()):
            target = folder / f"{number:05d}{PurePosixPath(name).suffix.casefold()}"
            source.copy(name, entry, target)
            if not names.is_read(entry):
                rejected.append(Rejected(name, _UNREAD_NAME))
            images.append(ArchivedImage(_shown(name, entry, names, number), target, texts.get(name)))
    return Unpacked(tuple(images), (*contents.others, *rejected))


def _shown(name: str, entry: zipfile.ZipInfo, names: ArchiveNames, number: int) -> str:
    """The name, or a neutral one if the name's encoding is unknown."""
    return name if names.is_read(entry) else f"image {number:05d}{PurePosixPath(name).suffix.casefold()}"


@dataclass(frozen=True, slots=True)
class _Contents:
    """The files of an archive by path, images in natural order."""

    images: dict[str, zipfile.ZipInfo]
    captions: dict[str, zipfile.ZipInfo]
    metadata: dict[str, zipfile.ZipInfo]
    others: tuple[Rejected, ...]


class _Bounded(io.BufferedReader):
    """A file that refuses to read more than `most` bytes at once.

    zipfile reads the whole central directory, at the size that the archive claims for it.
    """

    def __init__(self, raw: io.FileIO, most: int) -> None:
        super().__init__(raw)
        self._most = most

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self._most:
            raise InvalidInput("the archive's table of contents is too long; it has too many entries", field=FIELD)
        return super().read(self._most if size is None or size < 0 else size)


class _Budget:
    """Counts unpacked bytes and refuses the archive above a limit."""

    def __init__(self, limits: ArchiveLimits, archive_bytes: int) -> None:
        self._entry_bytes = limits.entry_bytes
        self._total_bytes = limits.total_bytes
        self._ratio_bytes = max(_RATIO_FLOOR, limits.ratio * archive_bytes)
        self._spent = 0

    def check_claims(self, entries: dict[str, zipfile.ZipInfo]) -> None:
        claimed = 0
        for name, entry in entries.items():
            claimed += entry.file_size
            self._check(name, entry.file_size, claimed)

    def spend(self, name: str, count: int, *, of_entry: int) -> None:
        """Count `count` more bytes of an entry, `of_entry` in all."""
        self._spent += count
        self._check(name, of_entry, self._spent)

    def _check(self, name: str, entry: int, total: int) -> None:
        if entry > self._entry_bytes:
            refuse(f"{quoted(name)} unpacks to more than {_mib(self._entry_bytes)}")
        if total > self._total_bytes:
            refuse(f"the archive unpacks to more than {_mib(self._total_bytes)} (reached at {quoted(name)})")
        if total > self._ratio_bytes:
            refuse(f"the archive unpacks to far more than its size, as only a zip bomb does (at {quoted(name)})")


class _Source:
    """Reads entries of an archive; any error in one becomes a refusal that names it."""

    def __init__(self, opened: zipfile.ZipFile, budget: _Budget) -> None:
        self._opened = opened
        self._budget = budget

    def copy(self, name: str, entry: zipfile.ZipInfo, target: Path) -> None:
        try:
            with target.open("wb") as file:
                for chunk in self._chunks(name, entry):
                    file.write(chunk)
        except OSError as error:
            raise disk_failure("unpacking", quoted(name), error) from error

    def read(self, name: str, entry: zipfile.ZipInfo, most: int) -> bytes | None:
        """Return the content of an entry; None if it has more than `most` bytes."""
        held = bytearray()
        for chunk in self._chunks(name, entry):
            held += chunk
            if len(held) > most:
                return None
        return bytes(held)

    def _chunks(self, name: str, entry: zipfile.ZipInfo) -> Iterator[bytes]:
        if entry.compress_type not in _METHODS:
            refuse(f"{quoted(name)} is compressed with a method other than deflate")
        count = 0
        with _damage(name):
            source = self._opened.open(entry)
        with source:
            while True:
                with _damage(name):
                    chunk = source.read(_CHUNK)
                if not chunk:
                    break
                count += len(chunk)
                self._budget.spend(name, len(chunk), of_entry=count)
                yield chunk
        if count != entry.file_size:
            refuse(f"the archive is damaged: {quoted(name)} does not have the size that it claims")


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """Turn errors about damage into a refusal. zlib, struct, zipfile and invalid seeks all raise errors of their
    own."""
    try:
        yield
    except (InvalidInput, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise disk_failure("reading", "the data set's archive", error) from error
        _log.info("an entry of an archive could not be read: %r", error)
        raise InvalidInput(f"the archive is damaged at {quoted(name)}", field=FIELD) from error


def _opened(file: _Bounded) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (InvalidInput, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise disk_failure("reading", "the data set's archive", error) from error
        _log.info("an archive could not be opened: %r", error)
        raise InvalidInput(_what_it_is(file), field=FIELD) from error


def _what_it_is(file: _Bounded) -> str:
    file.seek(0)
    start = file.read(512).lstrip()
    if not start:
        return "the archive is empty"
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "the zip archive is damaged or incomplete"
    named = next((name for magic, name in _OTHER_FORMATS.items() if start.startswith(magic)), None)
    return f"not a zip archive but {named}" if named else "not a zip archive"


def _entries(opened: zipfile.ZipFile, names: ArchiveNames, limits: ArchiveLimits) -> dict[str, zipfile.ZipInfo]:
    infos = opened.infolist()
    if len(infos) > limits.entries:
        refuse(f"the archive has {len(infos)} entries; at most {limits.entries} are unpacked")
    return safe_entries(infos, names)


def _sorted(entries: dict[str, zipfile.ZipInfo], limits: ArchiveLimits) -> _Contents:
    images: dict[str, zipfile.ZipInfo] = {}
    captions: dict[str, zipfile.ZipInfo] = {}
    metadata: dict[str, zipfile.ZipInfo] = {}
    others: list[Rejected] = []
    stems = {key for name in entries if _suffix(name) in _IMAGES for key in _keys(name)}
    for name in sorted(entries, key=natural_order):
        suffix = _suffix(name)
        if suffix in _IMAGES:
            images[name] = entries[name]
        elif PurePosixPath(name).name.casefold() == _METADATA:
            metadata[name] = entries[name]
        elif suffix in _CAPTIONS and _stem(name).casefold() in stems:
            captions[name] = entries[name]
        else:
            others.append(Rejected(name, _why_not(suffix)))
    if not images:
        held = f"; the first of its {len(others)} files is {quoted(others[0].file)}" if others else ""
        refuse(f"there is no image in the archive{held}")
    if len(images) > limits.images:
        refuse(f"the archive has {len(images)} images; a data set has at most {limits.images}")
    return _Contents(images, captions, metadata, tuple(others))


def _why_not(suffix: str) -> str:
    if suffix in _ARCHIVES:
        return "an archive within the archive is not unpacked"
    if suffix in _CAPTIONS:
        return "there is no image of the same name next to it"
    return "neither an image in an accepted format nor a caption"


def _captions(source: _Source, contents: _Contents, most_rows: int) -> tuple[list[Rejected], dict[str, str]]:
    """Return faults of captions, and the captions by the image's path.

    A file next to an image overrides metadata, and metadata in the image's own folder overrides that above it.
    """
    rejected: list[Rejected] = []
    texts: dict[str, str] = {}
    for name, entry in sorted(contents.metadata.items(), key=lambda item: item[0].count("/")):
        data = source.read(name, entry, _MOST_METADATA_BYTES)
        if data is None:
            refuse(f"{quoted(name)} has more than {_mib(_MOST_METADATA_BYTES)}")
        rows, faults = read_metadata(data, name=name, most=most_rows)
        rejected += [Rejected(name, fault) for fault in faults]
        for file, text in rows:
            path = _beside(name, file)
            if path in contents.images:
                texts[path] = text
            else:
                rejected.append(Rejected(clean_caption(file)[:MOST_NAME], f"{name} names it, but it is not there"))
    unread, beside = _files_beside(source, contents)
    texts |= beside
    return [*rejected, *unread], {name: text for name, text in texts.items() if text}


def _files_beside(source: _Source, contents: _Contents) -> tuple[list[Rejected], dict[str, str]]:
    rejected: list[Rejected] = []
    spelled: dict[str, str] = {}
    for name, entry in sorted(contents.captions.items(), key=lambda item: _CAPTIONS.index(_suffix(item[0]))):
        text = _caption(source, name, entry)
        if isinstance(text, Rejected):
            rejected.append(text)
        elif text:
            spelled.setdefault(_stem(name), text)
    # Names of two images may differ in case only: an exact match is no caption of the other.
    taken = {key for image in contents.images for key in (image, _stem(image))}
    others: dict[str, str] = {}
    for called, text in spelled.items():
        if called not in taken:
            others.setdefault(called.casefold(), text)
    texts: dict[str, str] = {}
    for image in contents.images:
        candidates = [spelled.get(image), spelled.get(_stem(image)), *map(others.get, _keys(image))]
        if (found := next(filter(None, candidates), None)) is not None:
            texts[image] = found
    return rejected, texts


def _caption(source: _Source, name: str, entry: zipfile.ZipInfo) -> str | Rejected:
    data = source.read(name, entry, _MOST_CAPTION_BYTES)
    if data is None:
        return Rejected(name, f"a caption has at most {_MOST_CAPTION_BYTES} bytes")
    text = decode_text(data)
    if text is None:
        return Rejected(name, "its encoding is unknown; save it as UTF-8")
    if DAMAGED in text:
        return Rejected(name, "the caption is damaged (it contains U+FFFD)")
    return clean_caption(text)


def _beside(metadata: str, file: str) -> str:
    """The path in the archive of a file that a metadata file names."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(metadata), normal_path(file)))


def _keys(image: str) -> tuple[str, str]:
    """Names that a caption file of an image may have, without suffix: `a.jpg` has `a.jpg.txt` or `a.txt`, in any
    case."""
    return image.casefold(), _stem(image).casefold()


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.casefold()


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _mib(count: int) -> str:
    return f"{count / 2**20:g} MiB"
