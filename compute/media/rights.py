"""Who made an image and who owns it: the one kind of metadata that may survive, where the operator wants that."""

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
    """As EXIF knows them; one line each, None where nothing is said."""

    artist: str | None = None
    copyright: str | None = None

    def write_to(self, exif: Image.Exif) -> None:
        """EXIF says ASCII and means, for twenty years now, UTF-8."""
        for tag, text in ((ExifTags.Base.Artist, self.artist), (ExifTags.Base.Copyright, self.copyright)):
            if text:
                exif[tag] = text.encode()


def read_rights(image: Image.Image, data: bytes) -> Rights | None:
    """What a file says in its EXIF or, as a PNG, in its text; None if it says nothing.

    `image` is open, `data` the file as it came.
    """
    exif = image.getexif()
    told = png.texts(data, frozenset({_AUTHOR, _OWNER})) if data.startswith(png.SIGNATURE) else {}
    artist = _text(exif.get(ExifTags.Base.Artist)) or _text(told.get(_AUTHOR))
    owner = _text(exif.get(ExifTags.Base.Copyright)) or _text(told.get(_OWNER))
    return Rights(artist, owner) if artist or owner else None


def _text(value: Any) -> str | None:
    """One short line. Pillow reads text of EXIF as Latin-1, whatever it is."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return None
    try:
        value = value.encode("latin-1").decode()
    except UnicodeError:
        # It is Latin-1 indeed, or text of a PNG, which Pillow has decoded as it should.
        value = str(value)
    return _CONTROL.sub(" ", value).strip()[:_MOST_CHARACTERS] or None
