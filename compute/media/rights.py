"""Author and owner of an image: the only metadata that may be kept, if the operator's settings say so."""

import re
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

from compute.media.formats import png

__all__ = ["Rights", "read_rights"]

_MOST_CHARACTERS = 500
_AUTHOR, _OWNER = "Author", "Copyright"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Rights:
    """Rights as EXIF defines them; one line each, None if absent."""

    artist: str | None = None
    copyright: str | None = None

    def write_to(self, exif: Image.Exif) -> None:
        """Write them as UTF-8, which programs use although EXIF specifies ASCII."""
        for tag, text in ((ExifTags.Base.Artist, self.artist), (ExifTags.Base.Copyright, self.copyright)):
            if text:
                exif[tag] = text.encode()


def read_rights(image: Image.Image, data: bytes) -> Rights | None:
    """Read the rights from a file's EXIF or, of a PNG, from its text; None if there are none.

    `image` is open, `data` the original file.
    """
    exif = image.getexif()
    told = png.texts(data, frozenset({_AUTHOR, _OWNER})) if data.startswith(png.SIGNATURE) else {}
    artist = _text(exif.get(ExifTags.Base.Artist)) or _text(told.get(_AUTHOR))
    owner = _text(exif.get(ExifTags.Base.Copyright)) or _text(told.get(_OWNER))
    return Rights(artist, owner) if artist or owner else None


def _text(value: Any) -> str | None:
    """One short line. Pillow reads text of EXIF as Latin-1, whatever its encoding."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return None
    try:
        value = value.encode("latin-1").decode()
    except UnicodeError:
        # It is indeed Latin-1, or text of a PNG, which Pillow has decoded correctly.
        value = str(value)
    return _CONTROL.sub(" ", value).strip()[:_MOST_CHARACTERS] or None
