"""Verifies fal's webhooks: an Ed25519 signature over the ids, the time and the hash of the body."""

import asyncio
import base64
import binascii
import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from compute.errors import ProviderFailed, Unauthorized, Unavailable
from compute.providers.calls.http import HttpClient, HttpRequest
from compute.providers.calls.outcomes import NotDeliveredError, OutcomeUnknownError

__all__ = ["FalWebhooks", "WebhookHead"]

_log = logging.getLogger(__name__)
_PREFIX = "x-fal-webhook-"
_TOLERANCE_SECONDS = 300.0
_KEPT_SECONDS = 24 * 3600.0
_AGAIN_SECONDS = 60.0
_FETCH_SECONDS = 10.0
_MOST_BYTES = 64 * 1024
_MOST_KEYS = 16
_KEY_BYTES = 32
_DIGITS = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"[0-9a-fA-F]{128}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_NOT_SIGNED = "This is not a webhook that fal has signed."


@dataclass(frozen=True, slots=True)
class WebhookHead:
    """What the headers of a webhook say. Of the body they only sign the hash."""

    request_id: str
    user_id: str
    timestamp: str
    signature: bytes

    @classmethod
    def of(cls, headers: Mapping[str, str], now: float) -> "WebhookHead":
        """Read before the body is; `now` in Unix seconds.

        Raises:
            Unauthorized: they are missing or malformed, or too old.
        """
        request_id, user_id, timestamp, signature = (
            headers.get(f"{_PREFIX}{name}", "") for name in ("request-id", "user-id", "timestamp", "signature")
        )
        if not _REQUEST_ID.fullmatch(request_id) or not user_id or not _SIGNATURE.fullmatch(signature):
            raise Unauthorized(_NOT_SIGNED)
        if not _DIGITS.fullmatch(timestamp) or abs(now - int(timestamp)) > _TOLERANCE_SECONDS:
            raise Unauthorized("This webhook was not signed within the last five minutes.")
        return cls(request_id, user_id, timestamp, bytes.fromhex(signature))

    def message(self, body: bytes) -> bytes:
        """The bytes that are signed."""
        parts = [self.request_id, self.user_id, self.timestamp, hashlib.sha256(body).hexdigest()]
        return "\n".join(parts).encode()


class FalWebhooks:
    """Knows fal's public keys. They are kept for a day, and asked for anew, once a minute at most, for a signature that
    none of them has made: fal changes them. Use it within one event loop."""

    def __init__(
        self,
        http: HttpClient,
        jwks_url: str,
        *,
        now: Callable[[], float] = time.time,
        most_often: float = _AGAIN_SECONDS,
    ) -> None:
        """`most_often`: seconds between two requests for the keys; `now` tells Unix seconds."""
        self._http = http
        self._jwks_url = jwks_url
        self._now = now
        self._most_often = most_often
        self._keys: list[bytes] = []
        self._fetched = self._asked = float("-inf")
        self._turn = asyncio.Lock()

    def head(self, headers: Mapping[str, str]) -> WebhookHead:
        """Raises:
        Unauthorized: they are not those of a fresh webhook.
        """
        return WebhookHead.of(headers, self._now())

    async def verify(self, head: WebhookHead, body: bytes) -> None:
        """Make sure that fal has signed it.

        Raises:
            Unauthorized: it has not.
            Unavailable: fal's keys cannot be had just now.
        """
        message = head.message(body)
        if self._now() - self._fetched <= _KEPT_SECONDS and _is_signed(self._keys, head.signature, message):
            return
        async with self._turn:
            await self._refresh()
        if not _is_signed(self._keys, head.signature, message):
            raise Unauthorized(_NOT_SIGNED)

    async def _refresh(self) -> None:
        """Raises:
        Unavailable: there are no keys that may still be used.
        """
        now = self._now()
        if now - self._asked >= self._most_often:
            self._asked = now
            try:
                self._keys = _keys_of(await self._fetch())
                self._fetched = now
            except (NotDeliveredError, OutcomeUnknownError, ProviderFailed, ValueError) as error:
                _log.warning("fal's keys could not be had: %s", error)
        if now - self._fetched > _KEPT_SECONDS:
            self._keys = []
            raise Unavailable("The keys that fal signs its webhooks with cannot be had just now.", retry_after=60)

    async def _fetch(self) -> bytes:
        request = HttpRequest("GET", self._jwks_url, seconds=_FETCH_SECONDS, max_bytes=_MOST_BYTES)
        answer = await self._http.ask(request, [])
        if not answer.ok:
            raise ValueError(f"the answer was {answer.status}")
        return answer.body


def _is_signed(keys: list[bytes], signature: bytes, message: bytes) -> bool:
    # It takes a while to import, and few processes are ever called.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except (InvalidSignature, ValueError):
            continue
        return True
    return False


def _keys_of(jwks: bytes) -> list[bytes]:
    """The Ed25519 keys of a JWKS.

    Raises:
        ValueError: it is none, or has no such key.
    """
    said: Any = json.loads(jwks)
    listed = said.get("keys") if isinstance(said, dict) else None
    if not isinstance(listed, list):
        raise ValueError("there is no list of keys in it")
    found = [key for one in listed[:_MOST_KEYS] if (key := _key_of(one)) is not None]
    if not found:
        raise ValueError("there is no key of Ed25519 in it")
    return found


def _key_of(one: Any) -> bytes | None:
    if not isinstance(one, dict) or (one.get("kty"), one.get("crv")) != ("OKP", "Ed25519"):
        return None
    text = one.get("x")
    if not isinstance(text, str):
        return None
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    return key if len(key) == _KEY_BYTES else None
