"""Archives as people send them, and as nobody should."""

import io
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

__all__ = ["cut_off", "doctored", "picture", "pretending", "with_link", "zipped"]

_CENTRAL = b"PK\x01\x02"


def picture(side: int = 40, colour: str = "red", image_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, image_format)
    return buffer.getvalue()


def zipped(path: Path, files: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def doctored(path: Path, files: Mapping[str, bytes], **claims: int) -> Path:
    """An archive whose table of contents says something else about its last entry."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        for attribute, value in claims.items():
            setattr(archive.filelist[-1], attribute, value)
    return path


def with_link(path: Path, name: str, target: str) -> Path:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("fine.png", picture())
        archive.writestr(info, target)
    return path


def cut_off(path: Path, kept: float) -> Path:
    """The file without its end, as a download that broke off leaves it."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    return path


def pretending(path: Path, table_bytes: int) -> Path:
    """An archive whose end says that its table of contents is that long, and that has as many bytes."""
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, table_bytes, 0, 0)
    with path.open("wb") as file:
        file.truncate(table_bytes)
        file.seek(table_bytes)
        file.write(end)
    return path
