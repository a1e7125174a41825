"""The measurements of the webhook benchmark, one figure a function."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg

from compute.db.session import Database
from compute.outbound.client import GuardedClient
from compute.webhooks.post import SignedPost
from compute.webhooks.retry import AttemptOutcome
from compute.webhooks.rows import PostgresDeliveryStore
from compute.webhooks.secret import made_secret
from compute.webhooks.sender import SendPolicy, WebhookSender
from compute.webhooks.store import ClaimedDelivery

__all__ = ["Cost", "Drained", "drain_bare", "drain_with_sender", "fill_dead", "live", "look_and_claim"]

DEAD = 100
"""Receivers of the backlog. None of them listens."""
_PAYLOAD = '{"event_type": "TASK_STATUS", "status": "COMPLETED", "text": "' + "x" * 700 + '"}'
_INSERT = """
INSERT INTO webhook_deliveries (id, task_id, url, payload)
SELECT gen_random_uuid(), gen_random_uuid(), {}, %s::jsonb FROM generate_series(1, %s) AS n
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor time of one round, in seconds."""

    sender: float
    receiver: float
    postgres: float


@dataclass(frozen=True, slots=True)
class Drained:
    """The result of one round: deliveries, time and cost."""

    deliveries: int
    seconds: float
    cost: Cost

    @property
    def per_second(self) -> float:
        return self.deliveries / self.seconds


class _Meter:
    """Measures time and processor time of all processes involved."""

    def __init__(self, receiver: psutil.Process, home: Path | None) -> None:
        self._receiver = receiver
        self._postgres = _postmaster(home) if home else None
        self._before: tuple[float, Cost] | None = None

    def start(self) -> None:
        self._before = time.perf_counter(), self._read()

    def stop(self, deliveries: int) -> Drained:
        assert self._before is not None
        began, before = self._before
        now = self._read()
        cost = Cost(now.sender - before.sender, now.receiver - before.receiver, now.postgres - before.postgres)
        return Drained(deliveries, time.perf_counter() - began, cost)

    def _read(self) -> Cost:
        processes = [self._postgres, *self._postgres.children()] if self._postgres else []
        return Cost(time.process_time(), _seconds(self._receiver), sum(_seconds(one) for one in processes))


def _postmaster(home: Path) -> psutil.Process:
    [file] = home.rglob("postmaster.pid")
    return psutil.Process(int(file.read_text().split()[0]))


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def drain_bare(url: str, receiver: psutil.Process, *, deliveries: int, at_once: int) -> Drained:
    """Measure the client alone, without rows and signatures."""

    async def drain() -> Drained:
        meter = _Meter(receiver, None)
        left = iter(range(deliveries))
        headers = {"Content-Type": "application/json", "webhook-id": str(uuid4())}

        async def post_on(client: GuardedClient) -> None:
            for _ in left:
                await client.post(url, _PAYLOAD.encode(), headers)

        async with GuardedClient(["127.0.0.1"]) as client:
            meter.start()
            await asyncio.gather(*(post_on(client) for _ in range(at_once)))
            return meter.stop(deliveries)

    return asyncio.run(drain())


def drain_with_sender(
    url: str, receiver: psutil.Process, database_url: str, home: Path, *, deliveries: int, at_once: int
) -> Drained:
    """Measure from the rows to the last answer, with a new sender."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("TRUNCATE webhook_deliveries CASCADE")
        connection.execute(_INSERT.format("%s"), [url, _PAYLOAD, deliveries])
        connection.execute("VACUUM ANALYZE webhook_deliveries")

    async def drain() -> Drained:
        meter = _Meter(receiver, home)
        async with sending(database_url, SendPolicy(per_receiver=at_once)) as answered:
            meter.start()
            await answered.until(deliveries)
            return meter.stop(deliveries)

    return asyncio.run(drain())


class Answered:
    """Counts answered deliveries."""

    def __init__(self) -> None:
        self.count = 0
        self._more = asyncio.Condition()

    async def note(self, outcome: AttemptOutcome) -> None:
        if outcome.delivered:
            async with self._more:
                self.count += 1
                self._more.notify_all()

    async def until(self, count: int) -> None:
        async with self._more:
            await self._more.wait_for(lambda: self.count >= count)


@asynccontextmanager
async def sending(database_url: str, policy: SendPolicy) -> AsyncIterator[Answered]:
    """Run a sender."""
    database = Database(database_url)
    store = PostgresDeliveryStore(database)
    answered = Answered()
    async with GuardedClient(["127.0.0.1", *(_dead(n) for n in range(DEAD))]) as client:
        signed = SignedPost(client, secret=made_secret(), timeout_seconds=15)

        async def post(claimed: ClaimedDelivery) -> AttemptOutcome:
            outcome = await signed(claimed)
            await answered.note(outcome)
            return outcome

        running = asyncio.create_task(WebhookSender(store, post, policy=policy).run())
        try:
            yield answered
        finally:
            running.cancel()
            await asyncio.wait([running])
            await store.close()
            await database.close()


def fill_dead(connection: psycopg.Connection[object], count: int) -> None:
    """Insert `count` due deliveries to receivers that do not exist."""
    connection.execute(_INSERT.format(f"'http://127.1.0.' || n %% {DEAD} || ':9/hook'"), [_PAYLOAD, count])
    connection.execute("VACUUM ANALYZE webhook_deliveries")


def _dead(number: int) -> str:
    return f"127.1.0.{number}"


def look_and_claim(url: str, database_url: str, *, claims: int) -> tuple[list[float], list[float]]:
    """Return milliseconds of each search for receivers, and of each claim of 32 deliveries to a living one."""
    looks, takes = [], []

    async def measure() -> None:
        database = Database(database_url)
        store = PostgresDeliveryStore(database)
        async with database.transaction():
            pass
        for _ in range(claims):
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute("DELETE FROM webhook_deliveries WHERE url = %s", [url])
                connection.execute(_INSERT.format("%s"), [url, _PAYLOAD, 32])
            began = time.perf_counter()
            page = await store.due(None, 500)
            looked = time.perf_counter()
            claimed = await store.claim({page.receivers[0]: 32}, 45.0)
            looks.append((looked - began) * 1000)
            takes.append((time.perf_counter() - looked) * 1000)
            assert len(claimed) == 32
        await store.close()
        await database.close()

    asyncio.run(measure())
    return looks, takes


def live(url: str, database_url: str, *, deliveries: int) -> list[float]:
    """Return milliseconds from row to delivery, for deliveries to a living receiver one by one."""

    async def send() -> None:
        async with sending(database_url, SendPolicy()) as answered:
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute("DELETE FROM webhook_deliveries WHERE url = %s", [url])
                for _ in range(deliveries):
                    connection.execute(_INSERT.format("%s"), [url, _PAYLOAD, 1])
                    await asyncio.sleep(0.05)
            await answered.until(deliveries)

    asyncio.run(send())
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT extract(epoch FROM delivered_at - created_at)::float8 * 1000 FROM webhook_deliveries "
            "WHERE url = %s AND status = 'DELIVERED'",
            [url],
        ).fetchall()
    return [milliseconds for (milliseconds,) in rows]
