"""Content types of stored objects, derived from their first bytes or else their name, without sidecar files."""

from pathlib import PurePosixPath

__all__ = ["HEAD_BYTES", "UNKNOWN", "content_type_of", "content_type_of_name"]

HEAD_BYTES = 32
"""The number of leading bytes that `content_type_of` needs."""

UNKNOWN = "application/octet-stream"

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (8, b"WEBP", "image/webp"),
    (0, b"GIF8", "image/gif"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (0, b"PK\x03\x04", "application/zip"),
)

_NAMES: dict[str, str] = {
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".csv": "text/csv",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".txt": "text/plain",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".yaml": "application/yaml",
    ".zip": "application/zip",
}


def content_type_of(head: bytes, path: str) -> str:
    """The content type of an object by its first bytes, or by its name if they are not recognised."""
    for offset, magic, content_type in _MAGIC:
        if head.startswith(magic, offset):
            return content_type
    return content_type_of_name(path)


def content_type_of_name(path: str) -> str:
    """The content type by the file name's extension; `application/octet-stream` if it is unknown."""
    return _NAMES.get(PurePosixPath(path).suffix.lower(), UNKNOWN)
