"""Links to stored objects that work without a key, until they expire."""

import base64
import hashlib
import hmac
import time

from compute.errors import Forbidden

__all__ = ["sign", "verify"]

MIN_SECRET_BYTES = 16


def sign(path: str, expires_at: int, secret: bytes) -> str:
    """A URL-safe HMAC-SHA256 signature for `path` until `expires_at` (Unix time in seconds).

    Raises:
        ValueError: the secret is shorter than 16 bytes.
    """
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"a link secret has at least {MIN_SECRET_BYTES} bytes")
    # The version and the number come first and hold no newline, so no two pairs share one message.
    message = f"compute-link-1\n{expires_at}\n{path}".encode()
    digest = hmac.new(secret, message, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def verify(path: str, expires_at: int, signature: str, secret: bytes) -> None:
    """Check a signature in constant time.

    Raises:
        Forbidden: the signature belongs to another path, time or secret, or the link has expired.
        ValueError: the secret is shorter than 16 bytes.
    """
    expected = sign(path, expires_at, secret)
    # The bytes are compared because compare_digest refuses text that is not ASCII.
    if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogateescape")):
        raise Forbidden("the link's signature is wrong")
    if time.time() >= expires_at:
        raise Forbidden("the link has expired")
