"""Memory of decoding, measured in a process of its own: within what the header made us reserve for it."""

import io
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from compute.media.images import decode_cost

SIDE = 3072
MEASURE = """
import sys
from pathlib import Path
from compute.media.codec import encode
from compute.media.images import decode_image

def kib(name):
    return int(Path("/proc/self/status").read_text().split(name)[1].split()[0])

data = sys.stdin.buffer.read()
encode(decode_image(SMALL, max_pixels=10**8, field="x").image, "png")
# From here on the peak counts anew.
Path("/proc/self/clear_refs").write_text("5")
before = kib("VmRSS:")
encode(decode_image(data, max_pixels=10**8, field="x").image, "png")
sys.stdout.write(str((kib("VmHWM:") - before) * 1024))
"""


def gradient(mode: str, size: int = SIDE) -> Image.Image:
    """Something that compresses well."""
    grey = Image.linear_gradient("L").resize((size, size))
    bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.merge(mode, [grey] * bands) if bands > 1 else grey.convert(mode)


def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def deep_png(channels: int, size: int = SIDE) -> bytes:
    import cv2

    row = np.linspace(0, 65535, size).astype(np.uint16)
    pixels = np.broadcast_to(row[:, None, None], (size, size, channels))
    return bytes(cv2.imencode(".png", np.ascontiguousarray(pixels))[1])


def deep_tiff(size: int = SIDE) -> bytes:
    import cv2

    row = np.linspace(0, 65535, size).astype(np.uint16)
    return bytes(cv2.imencode(".tiff", np.ascontiguousarray(np.broadcast_to(row[:, None, None], (size, size, 3))))[1])


def turned(image: Image.Image, image_format: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(image, image_format, exif=exif.tobytes())


FILES: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: saved(gradient("RGB"), "PNG"),
    "PNG with alpha, turned": lambda: turned(gradient("RGBA"), "PNG"),
    "PNG, grey": lambda: saved(gradient("L"), "PNG"),
    "PNG, 16 bits": lambda: deep_png(3),
    "PNG, 16 bits with alpha": lambda: deep_png(4),
    "PNG, 16 bits, grey": lambda: deep_png(1),
    "TIFF, 16 bits": deep_tiff,
    "TIFF, CMYK": lambda: saved(gradient("CMYK"), "TIFF", compression="tiff_lzw"),
    "TIFF, LAB": lambda: saved(gradient("LAB"), "TIFF"),
    "JPEG, CMYK": lambda: saved(gradient("CMYK"), "JPEG"),
    "JPEG, turned": lambda: turned(gradient("RGB"), "JPEG"),
    "WEBP": lambda: saved(gradient("RGBA"), "WEBP", method=0),
    "AVIF": lambda: saved(gradient("RGB", 2048), "AVIF", speed=10),
    "GIF": lambda: saved(gradient("L").convert("P"), "GIF"),
}


@pytest.mark.parametrize("name", FILES)
def test_decoding_keeps_within_what_was_reserved(name: str) -> None:
    data = FILES[name]()
    small = saved(Image.new("RGB", (8, 8)), "PNG")
    script = MEASURE.replace("SMALL", repr(small))
    done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True)  # noqa: S603
    taken, cost = int(done.stdout), decode_cost(data, max_pixels=10**8, field="x")
    assert taken <= cost, f"{taken / SIDE**2:.1f} bytes a pixel"
    # The measure measures.
    assert taken > SIDE**2 / 4
