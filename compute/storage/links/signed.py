"""Signed links to stored objects, which work without an API key until they expire."""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote

from compute.errors import Forbidden, InvalidInput
from compute.storage.base import ObjectStore
from compute.storage.paths import LORAS, clean_path
from compute.storage.readable import why_hidden

__all__ = ["LinkSigner", "link_to", "sign", "stored_path", "verify"]

MIN_SECRET_BYTES = 16
_LONGEST_LINK = 4096
_SCHEME = re.compile(r"\s*https?://", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class LinkSigner:
    """The route and the secrets of signed links.

    Attributes:
        route: The path, with a slash at its end, below which the server serves them.
        secrets: The first one signs; links signed with any of them are valid.
    """

    route: str
    secrets: tuple[bytes, ...]


async def link_to(
    path: str, objects: ObjectStore, signer: LinkSigner, *, ttl_seconds: int, base_url: str, model: bool = False
) -> str:
    """A link to the object at `path`: the store's own if it has any, else a signed one to the server at `base_url`.

    Raises:
        Forbidden: the object may not be read; with `model`, a LoRA made by a training may.
    """
    if not (model and path.startswith(LORAS)) and (reason := why_hidden(path)) is not None:
        raise Forbidden(reason)
    direct = await objects.url(path, ttl_seconds)
    if direct is not None:
        return direct
    expires = int(time.time()) + ttl_seconds
    signature = sign(path, expires, signer.secrets[0])
    return f"{base_url}{signer.route}{quote(path)}?expires={expires}&signature={signature}"


async def stored_path(address: str, objects: ObjectStore, signer: LinkSigner, *, field: str) -> str | None:
    """The path of the object behind a signed or a store's link, whatever its host; None for any other address.

    Raises:
        InvalidInput: it is such a link, and has expired; `field` names the part of the request.
    """
    # The field of an address may contain a whole image instead.
    if len(address) > _LONGEST_LINK or not _SCHEME.match(address):
        return None
    # As a server reads it: what comes behind `#` is not sent, and letters may be escaped.
    link, _, _ = address.strip().partition("#")
    base, _, query = link.partition("?")
    given = dict(parse_qsl(query))
    _, route, rest = unquote(base).partition(signer.route)
    if not route or not given.keys() >= {"expires", "signature"} or not _NUMBER.fullmatch(given["expires"]):
        return await objects.path_of(link)
    try:
        path = clean_path(rest)
        if not _matches(path, int(given["expires"]), given["signature"], signer.secrets):
            return None
    except InvalidInput:
        return None
    if time.time() >= int(given["expires"]):
        raise InvalidInput("This link has expired; name the path that it led to, or ask for a new one.", field=field)
    return path


def sign(path: str, expires_at: int, secret: bytes) -> str:
    """A URL-safe HMAC-SHA256 signature for `path` until `expires_at` (Unix time in seconds).

    Raises:
        ValueError: the secret is shorter than 16 bytes.
    """
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"a link secret has at least {MIN_SECRET_BYTES} bytes")
    # The version and the number come first and contain no newline, so no two pairs share one message.
    message = f"compute-link-1\n{expires_at}\n{path}".encode()
    digest = hmac.new(secret, message, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def verify(path: str, expires_at: int, signature: str, secrets: Sequence[bytes]) -> None:
    """Check in constant time whether a link was signed with one of `secrets`.

    Raises:
        Forbidden: the signature belongs to another path, time or secret, or the link has expired.
        ValueError: a secret is shorter than 16 bytes.
    """
    if not _matches(path, expires_at, signature, secrets):
        raise Forbidden("The link's signature is wrong.")
    if time.time() >= expires_at:
        raise Forbidden("The link has expired.")


def _matches(path: str, expires_at: int, signature: str, secrets: Sequence[bytes]) -> bool:
    # The bytes are compared because compare_digest refuses text that is not ASCII.
    given = signature.encode("utf-8", "surrogateescape")
    return any([hmac.compare_digest(sign(path, expires_at, secret).encode(), given) for secret in secrets])  # noqa: C419
