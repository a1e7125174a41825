"""Text that holds an image: what is taken, and that it does not matter where the pieces are cut."""

import base64
import random
from urllib.parse import quote_from_bytes

import pytest

from compute.media import base64_text
from compute.media.base64_text import decoded, is_inline, unescaped

STEP = base64_text._STEP


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 1000, STEP // 4 * 3 - 1, STEP, 3 * STEP + 1])
def test_every_spelling_gives_the_same_bytes(size: int) -> None:
    data = random.Random(size).randbytes(size)
    plain = base64.b64encode(data).decode()
    broken = base64.encodebytes(data).decode()
    assert decoded(plain) == data
    assert decoded(plain.rstrip("=")) == data
    assert decoded(broken) == data
    assert decoded(broken.replace("\n", "\r\n\t ")) == data
    assert decoded(base64.urlsafe_b64encode(data).decode()) == data
    assert decoded(f"{plain}\n \n") == data


@pytest.mark.parametrize(
    "text", ["A", "AAAAA", "AA=A", "AA==AAAA", "!", "AAAA!", "AAAA\u00e9", "AA\x00A", "A" * STEP + "!", "=" * 9 + "A"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decoded(text)


@pytest.mark.parametrize("size", [0, 1, 255, STEP // 3, STEP])
def test_escapes_may_lie_across_pieces(size: int) -> None:
    data = random.Random(size).randbytes(size)
    for shift in range(3):
        text = "a" * shift + quote_from_bytes(data, safe="")
        assert unescaped(text) == b"a" * shift + data
    assert unescaped("100%") == b"100%"
    assert unescaped("%4") == b"%4"


def test_the_number_of_escapes_is_bounded() -> None:
    with pytest.raises(ValueError, match="escapes"):
        unescaped("%" * (base64_text.MAX_ESCAPES + 1))


@pytest.mark.parametrize(
    ("source", "inline"),
    [
        ("data:image/png;base64,AAAA", True),
        ("DATA:,x", True),
        ("A" * 64, True),
        ("A" * 30 + "\n" + "A" * 40 + "==\n", True),
        ("A" * 63, False),
        ("uploads/ab/" + "a" * 64 + ".png", False),
        ("A" * 70 + "!", False),
        ("uploads/a.png", False),
        ("a/" * 10_000 + "!", True),
    ],
)
def test_what_holds_the_image_itself(source: str, inline: bool) -> None:
    assert is_inline(source) is inline
