"""Webhooks of a stand-in, sent by itself or as a test says: twice, late, in another order, forged. Two signatures."""

import asyncio
import base64
import hashlib
import hmac
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from uuid import uuid4

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["Delivery", "EdKeys", "Forgery", "Sign", "Webhooks", "ed_message", "standard_signature"]


class Forgery(Enum):
    """Ways to forge a webhook."""

    BODY = "the body was changed after it was signed"
    KEY = "signed with another key"
    SIGNATURE = "a signature of the right form over nothing"
    MISSING = "no headers of a signature"


@dataclass(eq=False)
class Delivery:
    """One message to one address, sent any number of times."""

    url: str
    body: bytes
    job: str
    state: str
    """The job's state at that time."""
    id: str = field(default_factory=lambda: uuid4().hex)
    statuses: list[int] = field(default_factory=list)
    """The receiver's statuses, one for each attempt; 0: no answer."""

    @property
    def data(self) -> Any:
        return json.loads(self.body)


Sign = Callable[[Delivery, bytes, float, Forgery | None], Mapping[str, str]]
"""The headers of a delivery with this body at this time in Unix seconds, signed or forged."""


class Webhooks:
    """The sender of a stand-in's webhooks.

    While `automatic` is true each delivery is sent at once, `copies` times. Otherwise they wait in `outbox`, which
    holds all deliveries in the order in which they came up, for a test to `send`.
    """

    def __init__(self, sign: Sign, now: Callable[[], float]) -> None:
        self.automatic = True
        self.copies = 1
        self.skew = 0.0
        """Seconds by which the sender's clock is wrong."""
        self.outbox: list[Delivery] = []
        self._sign = sign
        self._now = now
        self._session: aiohttp.ClientSession | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._last: dict[str, asyncio.Task[None]] = {}
        """The latest delivery of each job: the next one waits for it."""

    def post(self, delivery: Delivery) -> None:
        """Note a delivery, and send it if they are sent by themselves."""
        self.outbox.append(delivery)
        if self.automatic:
            task = asyncio.create_task(self._send_copies(delivery, self._last.get(delivery.job)))
            self._last[delivery.job] = task
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def send(self, delivery: Delivery, *, forgery: Forgery | None = None, skew: float | None = None) -> int:
        """Send one now; the receiver's status, 0 if it gave none."""
        body = delivery.body
        if forgery is Forgery.BODY:
            body = json.dumps({**delivery.data, "forged": True}).encode()
        at = self._now() + (self.skew if skew is None else skew)
        headers = {"Content-Type": "application/json", **self._sign(delivery, delivery.body, at, forgery)}
        if self._session is None:
            self._session = aiohttp.ClientSession()
        try:
            async with self._session.post(delivery.url, data=io.BytesIO(body), headers=headers) as answered:
                status = answered.status
        except aiohttp.ClientError:
            status = 0
        delivery.statuses.append(status)
        return status

    async def send_again(self) -> None:
        """The vendor's next attempt: send all that no receiver has taken yet, in order."""
        for delivery in list(self.outbox):
            if not any(200 <= status < 300 for status in delivery.statuses):
                await self.send(delivery)

    async def _send_copies(self, delivery: Delivery, after: "asyncio.Task[None] | None") -> None:
        if after is not None:
            await asyncio.wait([after])
        for _ in range(self.copies):
            await self.send(delivery)

    async def idle(self) -> None:
        """Wait for the deliveries that are being sent."""
        await asyncio.gather(*self._running)

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._session is not None:
            await self._session.close()


class EdKeys:
    """Ed25519 keys and the public list of them (a JWKS). The newest one signs."""

    def __init__(self) -> None:
        self._keys = [Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()]

    def rotate(self) -> None:
        """Sign with a new key, which the list names from now on; the oldest leaves it."""
        self._keys = [*self._keys[1:], Ed25519PrivateKey.generate()]

    def sign(self, message: bytes, *, stranger: bool = False) -> str:
        """Hexadecimal digits; of a key that the list doesn't name, for a `stranger`."""
        key = Ed25519PrivateKey.generate() if stranger else self._keys[-1]
        return key.sign(message).hex()

    def listed(self) -> dict[str, list[dict[str, str]]]:
        """The JWKS."""
        raw = [key.public_key().public_bytes_raw() for key in self._keys]
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": _base64url(one)} for one in raw]}


def ed_message(request_id: str, user_id: str, timestamp: str, body: bytes) -> bytes:
    """The bytes that fal signs (fal's page "Webhooks")."""
    return "\n".join([request_id, user_id, timestamp, hashlib.sha256(body).hexdigest()]).encode()


def standard_signature(secret: str, identity: str, timestamp: str, body: bytes) -> str:
    """`v1,` and the HMAC of the Standard Webhooks specification. A secret may begin with `whsec_`."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{identity}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
