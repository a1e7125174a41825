import pytest

from compute.storage.content_types import content_type_of


@pytest.mark.parametrize(
    ("head", "path", "expected"),
    [
        (b"\x89PNG\r\n\x1a\n", "a.jpg", "image/png"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "a", "image/webp"),
        (b"\x00\x00\x00\x20ftypisom", "a", "video/mp4"),
        (b'{"a": 1}', "a.json", "application/json"),
        (b"", "A.PNG", "image/png"),
        (b"<html>", "a.html", "application/octet-stream"),
        (b"", "png", "application/octet-stream"),
    ],
)
def test_bytes_decide_then_the_name(head: bytes, path: str, expected: str) -> None:
    assert content_type_of(head, path) == expected
