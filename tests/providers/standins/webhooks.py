"""Webhooks that a stand-in sends: by itself, or when and how a test says: twice, late, in another order, forged."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from uuid import uuid4

import aiohttp

__all__ = ["Delivery", "Forgery", "Sign", "Webhooks"]


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
            async with self._session.post(delivery.url, data=body, headers=headers) as answered:
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
