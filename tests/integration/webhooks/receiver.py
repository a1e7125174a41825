"""Webhook receivers on loopback, and what a test needs around a sender."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

from aiohttp import web
from sqlalchemy import insert, select

from compute.db.session import Database
from compute.db.tables import WebhookAttempt, WebhookDelivery
from compute.outbound.client import GuardedClient
from compute.webhooks.post import SignedPost
from compute.webhooks.retry import AttemptOutcome
from compute.webhooks.rows import PostgresDeliveryStore
from compute.webhooks.sender import Backoff, Breaker, Post, SendPolicy, WebhookSender
from compute.webhooks.store import ClaimedDelivery
from tests.patience import PATIENCE

SECRET = "whsec_" + "c2VjcmV0" * 4
SOON = Backoff(first=0.02, factor=1, jitter=0)
HARDLY_LEFT_ALONE = Breaker(first=0.02, factor=1, jitter=0)
QUICK = SendPolicy(poll=0.05, lease_margin=20, backoff=SOON, breaker=HARDLY_LEFT_ALONE)


@dataclass(frozen=True)
class Received:
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> UUID:
        return UUID(self.headers["webhook-id"])


@dataclass
class Receiver:
    """Answers with `statuses` in turn, the last one for ever, after `delay` seconds; at the path `/well` with 200 at
    once."""

    statuses: Sequence[int] = (200,)
    delay: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""
    received: list[Received] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received(headers, await request.read(), asyncio.get_running_loop().time()))
        nth = min(len(self.received), len(self.statuses))
        is_well = request.path == "/well"
        status = 200 if is_well else self.statuses[nth - 1]
        try:
            await asyncio.sleep(0 if is_well else self.delay)
        finally:
            self._at_once -= 1
        return web.Response(status=status, headers=self.headers)

    def ids(self) -> list[UUID]:
        return [one.id for one in self.received]


@asynccontextmanager
async def receiving(receiver: Receiver) -> AsyncIterator[Receiver]:
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    receiver.url = f"http://127.0.0.1:{port}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@asynccontextmanager
async def open_store(database: Database) -> AsyncIterator[PostgresDeliveryStore]:
    store = PostgresDeliveryStore(database)
    try:
        yield store
    finally:
        await store.close()


@dataclass
class Load:
    """What a sender has on its way."""

    now: int = 0
    most: int = 0

    def counted(self, post: Post) -> Post:
        async def counting(claimed: ClaimedDelivery) -> AttemptOutcome:
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                return await post(claimed)
            finally:
                self.now -= 1

        return counting


@asynccontextmanager
async def sending(
    database: Database,
    *,
    secret: str = SECRET,
    allowed: Sequence[str] = ("127.0.0.1",),
    policy: SendPolicy = QUICK,
    max_attempts: int = 10,
    timeout_seconds: float = PATIENCE,
    owner: str = "sender",
    load: Load | None = None,
) -> AsyncIterator["asyncio.Task[None]"]:
    """A sender at work; the task is its `run`, for a test to cancel."""
    async with GuardedClient(allowed) as client, open_store(database) as store:
        sender = WebhookSender(
            store,
            (load or Load()).counted(SignedPost(client, secret=secret, timeout_seconds=timeout_seconds)),
            timeout_seconds=timeout_seconds,
            owner=owner,
            policy=replace(policy, limits=replace(policy.limits, max_attempts=max_attempts)),
        )
        running = asyncio.create_task(sender.run())
        try:
            yield running
        finally:
            running.cancel()
            await asyncio.wait([running], timeout=PATIENCE)
            assert running.cancelled(), "the sender broke, or did not stop"


async def enqueue(database: Database, url: str, count: int = 1, **payload: Any) -> list[UUID]:
    ids = [uuid4() for _ in range(count)]
    rows = [{"id": one, "task_id": uuid4(), "url": url, "payload": {"n": n} | payload} for n, one in enumerate(ids)]
    async with database.transaction() as session:
        await session.execute(insert(WebhookDelivery), rows)
    return ids


async def delivery(database: Database, delivery_id: UUID) -> WebhookDelivery:
    async with database.transaction() as session:
        return await session.get_one(WebhookDelivery, delivery_id)


async def statuses(database: Database) -> set[str]:
    async with database.transaction() as session:
        return set(await session.scalars(select(WebhookDelivery.status)))


async def attempts(database: Database, delivery_id: UUID) -> list[WebhookAttempt]:
    async with database.transaction() as session:
        found = await session.scalars(
            select(WebhookAttempt).where(WebhookAttempt.delivery_id == delivery_id).order_by(WebhookAttempt.id)
        )
        return list(found)


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `holds()`; the test fails if it takes longer."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.02)


async def until_status(database: Database, delivery_id: UUID, status: str) -> WebhookDelivery:
    async def reached() -> bool:
        return (await delivery(database, delivery_id)).status == status

    await eventually(reached)
    return await delivery(database, delivery_id)


async def until_received(receiver: Receiver, count: int = 1) -> None:
    async def reached() -> bool:
        return len(receiver.received) >= count

    await eventually(reached)
