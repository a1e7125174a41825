"""A receiver of webhooks that keeps everything, and verifies the two kinds of signatures."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import standardwebhooks
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["Message", "Receiver", "fal_keys", "is_fals", "is_standard", "receiving"]

TOLERANCE = 300
"""Seconds by which a signature's time may differ (fal's page "Webhooks", and the Standard Webhooks specification)."""


@dataclass(frozen=True)
class Message:
    """One webhook as it arrived."""

    path: str
    """With its query."""
    headers: Mapping[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """Answers with `status`, and keeps what came."""

    url: str = ""
    status: int = 200
    messages: list[Message] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.messages.append(Message(request.path_qs, request.headers, await request.read()))
        return web.Response(status=self.status)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook?task=41"
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def fal_keys(client: httpx.AsyncClient, address: str) -> list[Ed25519PublicKey]:
    """The public keys of a JWKS."""
    listed = (await client.get(f"{address}/.well-known/jwks.json")).json()["keys"]
    raw = [base64.urlsafe_b64decode(one["x"] + "=" * (-len(one["x"]) % 4)) for one in listed]
    return [Ed25519PublicKey.from_public_bytes(one) for one in raw]


def is_fals(message: Message, keys: list[Ed25519PublicKey], now: float) -> bool:
    """Whether one of fal's keys has signed this message within the tolerance."""
    names = ("Request-Id", "User-Id", "Timestamp")
    signed = [message.headers.get(f"X-Fal-Webhook-{name}", "") for name in names]
    signature = bytes.fromhex(message.headers.get("X-Fal-Webhook-Signature", ""))
    if not signed[2] or abs(now - int(signed[2])) > TOLERANCE:
        return False
    text = "\n".join([*signed, hashlib.sha256(message.body).hexdigest()]).encode()
    return any(_verifies(key, signature, text) for key in keys)


def _verifies(key: Ed25519PublicKey, signature: bytes, text: bytes) -> bool:
    try:
        key.verify(signature, text)
    except InvalidSignature:
        return False
    return True


def is_standard(message: Message, secret: str) -> bool:
    """Whether the library of the Standard Webhooks specification accepts it."""
    try:
        standardwebhooks.Webhook(secret).verify(message.body, dict(message.headers))
    except standardwebhooks.WebhookVerificationError:
        return False
    return True
