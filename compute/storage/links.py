"""Links to stored objects that work without a key, until they expire."""

import base64
import hashlib
import hmac
import time
from collections.abc import Sequence
from urllib.parse import quote

from compute.errors import Forbidden
from compute.storage.base import ObjectStore

__all__ = ["link_to", "sign", "verify"]

MIN_SECRET_BYTES = 16
_ROUTE = "/api/v1/storage/images/"


async def link_to(path: str, objects: ObjectStore, secret: bytes, *, ttl_seconds: int, base_url: str) -> str:
    """A link to the object at `path`: the store's own where it has them, else a signed one to the API at `base_url`."""
    direct = await objects.url(path, ttl_seconds)
    if direct is not None:
        return direct
    expires = int(time.time()) + ttl_seconds
    return f"{base_url}{_ROUTE}{quote(path)}?expires={expires}&signature={sign(path, expires, secret)}"


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


def verify(path: str, expires_at: int, signature: str, secrets: Sequence[bytes]) -> None:
    """Check in constant time whether a link was signed with one of `secrets`.

    Raises:
        Forbidden: the signature belongs to another path, time or secret, or the link has expired.
        ValueError: a secret is shorter than 16 bytes.
    """
    # The bytes are compared because compare_digest refuses text that is not ASCII.
    given = signature.encode("utf-8", "surrogateescape")
    matches = [hmac.compare_digest(sign(path, expires_at, secret).encode(), given) for secret in secrets]
    if not any(matches):
        raise Forbidden("the link's signature is wrong")
    if time.time() >= expires_at:
        raise Forbidden("the link has expired")
