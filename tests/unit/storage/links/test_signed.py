import re
import time
from pathlib import Path

import pytest

from compute.errors import Forbidden
from compute.storage.links.signed import LinkSigner, link_to, sign, stored_path, verify
from compute.storage.local import LocalStore

SECRET = b"0123456789abcdef0123456789abcdef"
SIGNER = LinkSigner("/files/", (SECRET,))
LATER = 4_102_444_800  # in the year 2100


def test_a_signature_opens_its_own_link() -> None:
    verify("results/ü 1.png", LATER, sign("results/ü 1.png", LATER, SECRET), [SECRET])


def test_a_signature_is_safe_in_a_query() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", sign("a", LATER, SECRET))


@pytest.mark.parametrize(
    ("path", "expires_at", "secret"),
    [
        ("results/2.png", LATER, SECRET),
        ("results/1.png", LATER + 1, SECRET),
        ("results/1.png", LATER, SECRET[::-1]),
    ],
)
def test_another_path_time_or_secret_is_refused(path: str, expires_at: int, secret: bytes) -> None:
    signature = sign("results/1.png", LATER, SECRET)
    with pytest.raises(Forbidden, match="signature"):
        verify(path, expires_at, signature, [secret])


@pytest.mark.parametrize("signature", ["", "x", "ü" * 43, "\udc80"], ids=ascii)
def test_garbage_is_refused(signature: str) -> None:
    with pytest.raises(Forbidden):
        verify("a", LATER, signature, [SECRET])


def test_an_expired_link_is_refused() -> None:
    past = int(time.time()) - 1
    with pytest.raises(Forbidden, match="expired"):
        verify("a", past, sign("a", past, SECRET), [SECRET])


def test_path_and_time_cannot_trade_characters() -> None:
    assert sign("1\na", 2, SECRET) != sign("a", 21, SECRET)


def test_a_short_secret_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="16"):
        sign("a", LATER, b"short")


class Inline(str):
    """An image of megabytes, at which nobody may look from end to end."""

    def strip(self, *_: object) -> str:
        raise AssertionError("it was read to its end")

    partition = lower = split = strip  # type: ignore[assignment]


@pytest.mark.parametrize("start", ["", "data:image/png;base64,", "https://"])
async def test_an_image_that_stands_in_the_place_of_an_address_is_not_read(tmp_path: Path, start: str) -> None:
    image = Inline(start + "A" * 5_000_000)
    assert await stored_path(image, LocalStore(tmp_path), SIGNER, field="base_image") is None


async def test_a_link_is_known_whatever_stands_around_it(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    link = await link_to("results/1.png", store, SIGNER, ttl_seconds=60, base_url="http://here")
    escaped = link.replace("/results/1.png", "/results/%31.png").replace("storage", "st%6frage")
    odd = [f" {link}\n", link.replace("http://", "HTTP://"), f"{link}#x", f"{link}#", f"{link}&more=1", escaped]
    for address in (link, *odd):
        assert await stored_path(address, store, SIGNER, field="base_image") == "results/1.png"
