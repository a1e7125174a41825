"""Pictures that tell what they were made from.

A picture shows 256 black and white cells: the SHA-256 of a prompt, a seed and the images that a vendor was given. Cells
are large enough to survive JPEG, and can be read back from the finished picture.
"""

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image

__all__ = ["data_uri", "draw", "fingerprint", "from_base64", "read_fingerprint", "size_of"]

_CELLS = 16
Size = tuple[int, int]


def fingerprint(prompt: str = "", seed: int | None = None, images: Sequence[bytes] = ()) -> str:
    """What a picture of these shows, in hexadecimal digits. Images count by their bytes, in their order."""
    parts = [prompt, seed, [hashlib.sha256(one).hexdigest() for one in images]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@lru_cache(maxsize=256)
def draw(shown: str, size: Size = (128, 128), kind: str = "PNG") -> bytes:
    """A real picture that shows a fingerprint; at least 32 pixels wide and high as PNG, 128 as JPEG."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(shown), np.uint8)).reshape(_CELLS, _CELLS) * np.uint8(255)
    picture = Image.fromarray(bits).resize(size, Image.Resampling.NEAREST).convert("RGB")
    written = io.BytesIO()
    picture.save(written, kind, quality=92) if kind != "PNG" else picture.save(written, kind, compress_level=1)
    return written.getvalue()


def read_fingerprint(picture: bytes) -> str:
    """The fingerprint that a picture shows.

    Raises:
        OSError: it is no picture, or not a whole one.
    """
    with Image.open(io.BytesIO(picture)) as opened:
        grey = np.asarray(opened.convert("L"))
    rows = ((np.arange(_CELLS) + 0.5) * grey.shape[0] / _CELLS).astype(int)
    columns = ((np.arange(_CELLS) + 0.5) * grey.shape[1] / _CELLS).astype(int)
    return np.packbits(grey[np.ix_(rows, columns)] > 127).tobytes().hex()


def size_of(picture: bytes) -> Size:
    """Width and height in pixels.

    Raises:
        OSError: it is no picture.
    """
    with Image.open(io.BytesIO(picture)) as opened:
        return opened.size


def data_uri(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def from_base64(text: str) -> bytes:
    """The bytes of a data URI or of plain base64.

    Raises:
        ValueError: it is neither.
    """
    return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
