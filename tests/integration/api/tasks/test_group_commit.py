"""Concurrent submits share transactions, and none of them notices the others."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg.errors import UntranslatableCharacter
from psycopg.rows import dict_row
from sqlalchemy.engine import URL, make_url

from compute.api.idempotency.keys import Answer, IdempotentRequest, RequestKey
from compute.db.patience import Patience
from compute.db.session import Database
from compute.db.tables import IdempotencyKey, Task
from compute.errors import InvalidInput, Unavailable
from compute.events.notify import Notifier
from compute.schemas.events import TaskCreatedEvent
from compute.settings import Settings
from compute.tasks.submission.writer import AWAY, Key, OutcomeUnknown, Submission, TaskWriter
from tests.integration.api.conftest import serving_api
from tests.integration.lossy import LossyWire
from tests.integration.rows import add, new_task
from tests.integration.webhooks.test_outage import Outage
from tests.patience import NEVER, PATIENCE

Rows = Callable[[str], list[dict[str, Any]]]
BLOCKED = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@dataclass(frozen=True, eq=False)
class Request:
    """What a client asks to have stored."""

    tasks: Sequence[Task]
    answer: Callable[[], Awaitable[Answer]]
    idempotent: IdempotentRequest


class Door:
    """A writer as the API uses it."""

    def __init__(self, writer: TaskWriter) -> None:
        self.writer = writer

    async def submit(self, request: Request) -> Answer:
        return await request.idempotent.store(self.writer, request.tasks, request.answer)

    async def close(self) -> None:
        await self.writer.close()


def submission(*tasks: Task, key: str | None = None, fingerprint: str = "same") -> Request:
    stored = tasks or (new_task(),)

    async def answer() -> Answer:
        return Answer(201, " ".join(str(task.id) for task in stored))

    return Request(stored, answer, IdempotentRequest(RequestKey(key, fingerprint) if key else None))


@asynccontextmanager
async def writing(url: str, *, patience: Patience | None = None, **options: Any) -> AsyncIterator[Door]:
    database = Database(url, patience=patience)
    writer = Door(TaskWriter(database, Notifier(database), **options))
    yield writer
    await writer.close()
    await database.close()


@pytest.fixture
async def writer(database_url: str) -> AsyncIterator[Door]:
    async with writing(database_url) as opened:
        yield opened


@pytest.fixture
def libpq_url(database_url: str) -> str:
    return make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture
def rows(libpq_url: str) -> Rows:
    """Ask the database on a connection of one's own."""

    def ask(query: str) -> list[dict[str, Any]]:
        with psycopg.connect(libpq_url, row_factory=dict_row) as connection:
            return connection.execute(query).fetchall()  # type: ignore[arg-type]

    return ask


@pytest.fixture
def locked(libpq_url: str) -> Callable[[], Any]:
    """While it is entered, whoever writes a task waits."""

    @contextmanager
    def lock() -> Iterator[None]:
        with psycopg.connect(libpq_url) as connection:
            connection.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
            yield

    return lock


def outage(postgres: URL, url: str) -> Outage:
    return Outage(postgres, str(make_url(url).database))


def stored_ids(rows: Rows) -> set[UUID]:
    return {row["id"] for row in rows("SELECT id FROM tasks")}


async def until_blocked(rows: Rows) -> int:
    """The process id of the backend that waits for the locked table."""
    async with asyncio.timeout(PATIENCE):
        while not (found := await asyncio.to_thread(rows, f"SELECT pid {BLOCKED}")):
            await asyncio.sleep(0.02)
    return int(found[0]["pid"])


async def settled(*work: Awaitable[Answer]) -> list[Answer | BaseException]:
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*work, return_exceptions=True)


async def test_two_hundred_at_once_share_transactions_and_keep_their_own_verdicts(
    api: httpx.AsyncClient, rows: Rows
) -> None:
    good = {"prompt": "a hat", "width": 64, "height": 64, "steps": 1}
    bodies = [good | ({"width": 7} if index % 4 == 0 else {"seed": index}) for index in range(200)]
    answers = await asyncio.gather(*(api.post("/tasks/", json=body) for body in bodies))
    assert [answer.status_code for answer in answers] == [422, 201, 201, 201] * 50
    accepted = [answer.json() for answer in answers if answer.status_code == 201]
    assert [task["seed"] for task in accepted] == [index for index in range(200) if index % 4]
    assert stored_ids(rows) == {UUID(task["id"]) for task in accepted}
    (made,) = rows("SELECT count(DISTINCT xmin::text) AS transactions, count(DISTINCT created_at) AS times FROM tasks")
    assert made["transactions"] < 100
    assert made["times"] == 150
    events = rows("SELECT task_id, count(*) AS n FROM task_events WHERE type = 'TASK_CREATED' GROUP BY task_id")
    assert {row["task_id"]: row["n"] for row in events} == dict.fromkeys(stored_ids(rows), 1)


async def test_the_event_is_the_one_that_the_outbox_writes(database: Database, writer: Door, rows: Rows) -> None:
    values = {"spec": {"num_outputs": 3}, "origin_zone": "eu", "origin_instance": "shop"}
    one = await add(database, **values)
    other = new_task(**values)
    await writer.submit(submission(other))
    events = {row["task_id"]: row for row in rows("SELECT task_id, type, status, data FROM task_events")}
    read = {task_id: TaskCreatedEvent.model_validate(row["data"]) for task_id, row in events.items()}
    same = {"task_id": None, "created_at": None, "timestamp": None}
    assert read[one.id].model_copy(update=same) == read[other.id].model_copy(update=same)
    assert read[other.id].created_at == read[other.id].timestamp == other.created_at
    assert events[one.id]["data"].keys() == events[other.id]["data"].keys()
    assert (events[other.id]["type"], events[other.id]["status"]) == ("TASK_CREATED", "PENDING")


async def test_tasks_keep_their_order(writer: Door, rows: Rows) -> None:
    tasks = [new_task() for _ in range(50)]
    await asyncio.gather(*(writer.submit(submission(*tasks[start : start + 5])) for start in range(0, 50, 5)))
    assert [row["id"] for row in rows("SELECT id FROM tasks ORDER BY created_at")] == [task.id for task in tasks]
    times = {row["id"]: row for row in rows("SELECT id, created_at, updated_at FROM tasks")}
    assert all(times[task.id]["created_at"] == task.created_at == times[task.id]["updated_at"] for task in tasks)


async def test_one_key_twice_in_one_batch_is_stored_once(writer: Door, rows: Rows, locked: Callable[[], Any]) -> None:
    with locked():
        first = asyncio.create_task(writer.submit(submission()))
        await until_blocked(rows)
        batch = [asyncio.create_task(writer.submit(submission(key="k"))) for _ in range(5)]
        other = asyncio.create_task(writer.submit(submission(key="k", fingerprint="other")))
        plain = asyncio.create_task(writer.submit(submission()))
        await asyncio.sleep(0.05)
    answers = await settled(*batch)
    assert {answer.body for answer in answers} == {answers[0].body}
    assert [answer.replayed for answer in answers] == [False, True, True, True, True]
    with pytest.raises(InvalidInput, match="another request"):
        await other
    await settled(first, plain)
    assert len(stored_ids(rows)) == 3


async def test_two_processes_with_the_same_keys_store_each_once(database_url: str, rows: Rows) -> None:
    keys = [f"key-{number}" for number in range(40)]
    async with writing(database_url) as one, writing(database_url) as other:
        work = [one.submit(submission(key=key)) for key in keys]
        # In the other order, so that the two would wait for each other in a circle if nobody sorted.
        work += [other.submit(submission(key=key)) for key in reversed(keys)]
        answers = await settled(*work)
    by_key = dict(zip(keys, answers[:40], strict=True))
    assert [answer.body for answer in answers[40:]] == [by_key[key].body for key in reversed(keys)]
    assert sum(not answer.replayed for answer in answers) == 40
    assert {str(task_id) for task_id in stored_ids(rows)} == {answer.body for answer in answers}
    assert len(rows("SELECT key FROM idempotency_keys")) == 40


async def test_two_servers_with_the_same_keys_give_the_same_answers(
    api: httpx.AsyncClient, settings: Settings, rows: Rows
) -> None:
    body = {"prompt": "a hat", "width": 64, "height": 64, "steps": 1}
    async with serving_api(settings) as url, httpx.AsyncClient(headers=api.headers, timeout=PATIENCE) as client:
        doors = [api, client]
        paths = ["/tasks/", f"{url}/api/v1/tasks/"]
        answers = await asyncio.gather(
            *(
                doors[turn % 2].post(paths[turn % 2], json=body, headers={"Idempotency-Key": f"order-{turn // 8}"})
                for turn in range(80)
            )
        )
    assert {answer.status_code for answer in answers} == {201}
    groups = [answers[start : start + 8] for start in range(0, 80, 8)]
    assert [len({answer.text for answer in group}) for group in groups] == [1] * 10
    assert [sum("idempotency-replayed" not in answer.headers for answer in group) for group in groups] == [1] * 10
    assert stored_ids(rows) == {UUID(group[0].json()["id"]) for group in groups}


async def test_a_client_that_hangs_up_takes_nobody_along(
    api: httpx.AsyncClient, rows: Rows, locked: Callable[[], Any]
) -> None:
    body = {"prompt": "a hat", "width": 64, "height": 64, "steps": 1}
    with locked():
        work = [asyncio.create_task(api.post("/tasks/", json=body | {"seed": seed})) for seed in range(3)]
        await until_blocked(rows)
        work += [asyncio.create_task(api.post("/tasks/", json=body | {"seed": seed})) for seed in range(3, 6)]
        await asyncio.sleep(0.1)
        work[0].cancel()
        work[3].cancel()
        await asyncio.sleep(0.1)
    answers = await asyncio.gather(*work, return_exceptions=True)
    stayed = [answer for answer in answers if isinstance(answer, httpx.Response)]
    assert [answer.status_code for answer in stayed] == [201] * 4
    assert {UUID(answer.json()["id"]) for answer in stayed} <= stored_ids(rows)


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_task_that_the_database_refuses_does_not_sink_its_neighbours(
    writer: Door, rows: Rows, key: str | None
) -> None:
    poison = submission(new_task(spec={"prompt": "nul \x00"}), key=key)
    unfit = submission(new_task(spec={"prompt": object()}))
    neighbours = [submission(key=key and f"{key}-{number}") for number in range(20)]
    batch = [*neighbours[:7], poison, *neighbours[7:15], unfit, *neighbours[15:]]
    outcomes = await settled(*(writer.submit(one) for one in batch))
    refused = {one: outcome for one, outcome in zip(batch, outcomes, strict=True) if not isinstance(outcome, Answer)}
    assert {one: type(error) for one, error in refused.items()} == {poison: UntranslatableCharacter, unfit: TypeError}
    assert stored_ids(rows) == {one.tasks[0].id for one in neighbours}


async def test_a_connection_lost_in_mid_flush_is_opened_again_and_nothing_is_doubled(
    writer: Door, rows: Rows, locked: Callable[[], Any]
) -> None:
    batch = [submission(key=f"k{number}" if number % 2 else None) for number in range(6)]
    with locked():
        work = [asyncio.create_task(writer.submit(one)) for one in batch]
        pid = await until_blocked(rows)
        assert await asyncio.to_thread(rows, f"SELECT pg_terminate_backend({pid}) AS done") == [{"done": True}]
        assert await until_blocked(rows) != pid
    answers = await settled(*work)
    assert [answer.body for answer in answers] == [str(one.tasks[0].id) for one in batch]
    assert stored_ids(rows) == {one.tasks[0].id for one in batch}


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_commit_whose_answer_was_lost_is_found(database_url: str, rows: Rows, key: str | None) -> None:
    async with LossyWire(database_url).open() as wire, writing(wire.url) as writer:
        await writer.submit(submission())
        lost = [submission(key=key and f"{key}{number}") for number in range(3)]
        work = [asyncio.create_task(writer.submit(one)) for one in lost]
        wire.cut_after = b"COMMIT" if key else str(lost[0].tasks[0].id).encode()
        answers = await settled(*work)
    assert wire.cuts == 1
    assert [answer.body for answer in answers] == [str(one.tasks[0].id) for one in lost]
    found = {row["id"]: row["created_at"] for row in rows("SELECT id, created_at FROM tasks")}
    assert len(found) == 4
    if key is None:
        assert [found[one.tasks[0].id] for one in lost] == [one.tasks[0].created_at for one in lost]
    else:
        # The answers that were stored beside the tasks, and so with the tasks' times.
        assert all(answer.replayed for answer in answers)
    assert len(rows("SELECT * FROM task_events")) == 4


async def test_an_outcome_that_stays_unknown_is_called_unknown_and_the_key_makes_it_safe(
    database_url: str, rows: Rows
) -> None:
    first = submission(key="k")
    async with LossyWire(database_url).open() as wire, writing(wire.url, outcome_seconds=0.3) as writer:
        await writer.submit(submission())
        wire.stay_away, wire.cut_after = True, b"COMMIT"
        with pytest.raises(Unavailable, match="not known"):
            await writer.submit(first)
        with pytest.raises(Unavailable, match="does not answer"):
            await writer.submit(submission())
        wire.stay_away = False
        async with asyncio.timeout(PATIENCE):
            while isinstance((answer := (await settled(writer.submit(submission(key="k"))))[0]), Unavailable):
                await asyncio.sleep(0.02)
        assert answer == Answer(201, str(first.tasks[0].id), replayed=True)
    assert len(stored_ids(rows)) == 2


async def test_while_the_database_is_away_nobody_waits(postgres: URL, database_url: str, rows: Rows) -> None:
    patience = Patience(statement=NEVER, answer=NEVER)
    async with writing(database_url, patience=patience, outcome_seconds=NEVER) as writer:
        await writer.submit(submission())
        with outage(postgres, database_url)():
            outcomes = await settled(*(writer.submit(submission()) for _ in range(20)))
        assert {str(outcome) for outcome in outcomes} == {AWAY}
        assert {type(outcome) for outcome in outcomes} == {Unavailable}
    assert len(stored_ids(rows)) == 1


async def test_while_the_database_is_away_everybody_is_told_and_nothing_is_stored(
    postgres: URL, database_url: str, api: httpx.AsyncClient, rows: Rows
) -> None:
    body = {"prompt": "a hat", "width": 64, "height": 64}
    assert (await api.post("/tasks/", json=body)).status_code == 201
    with outage(postgres, database_url)():
        async with asyncio.timeout(PATIENCE):
            answers = await asyncio.gather(*(api.post("/tasks/", json=body) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.headers["retry-after"] for answer in answers} == {"2"}
        assert {answer.json()["code"] for answer in answers} == {"UNAVAILABLE"}
        assert {answer.json()["detail"] for answer in answers} == {"The database does not answer; try again."}
    async with asyncio.timeout(PATIENCE):
        while (answer := await api.post("/tasks/", json=body)).status_code == 503:
            await asyncio.sleep(0.02)
    assert answer.status_code == 201
    assert len(stored_ids(rows)) == 2


async def test_a_slow_database_refuses_newcomers_and_then_everybody(
    database_url: str, rows: Rows, locked: Callable[[], Any]
) -> None:
    patience = Patience(statement=NEVER, lock=NEVER, answer=NEVER)
    async with writing(database_url, most_waiting=4, patience=patience) as writer:
        with locked():
            stuck = asyncio.create_task(writer.submit(submission()))
            await until_blocked(rows)
            waiting = [asyncio.create_task(writer.submit(submission())) for _ in range(4)]
            await asyncio.sleep(0)
            with pytest.raises(Unavailable, match="Too many"):
                await writer.submit(submission())
            ending = asyncio.create_task(settled(stuck, *waiting))
            while not ending.done():
                # As the limit of a statement would.
                await asyncio.to_thread(rows, f"SELECT pg_cancel_backend(pid) {BLOCKED}")
            assert [type(outcome) for outcome in await ending] == [Unavailable] * 5
        await writer.submit(submission())
    assert len(stored_ids(rows)) == 1


async def test_a_client_that_leaves_takes_nobody_along(writer: Door, rows: Rows, locked: Callable[[], Any]) -> None:
    written, neighbour, dropped, waiting = (submission() for _ in range(4))
    with locked():
        in_flight = [asyncio.create_task(writer.submit(one)) for one in (written, neighbour)]
        await until_blocked(rows)
        behind = [asyncio.create_task(writer.submit(one)) for one in (dropped, waiting)]
        await asyncio.sleep(0)
        in_flight[0].cancel()
        behind[0].cancel()
        await asyncio.sleep(0)
    await settled(in_flight[1], behind[1])
    assert stored_ids(rows) == {one.tasks[0].id for one in (written, neighbour, waiting)}


async def test_a_stop_writes_what_waits_and_refuses_the_rest(
    writer: Door, rows: Rows, locked: Callable[[], Any]
) -> None:
    with locked():
        work = [asyncio.create_task(writer.submit(submission()))]
        await until_blocked(rows)
        work += [asyncio.create_task(writer.submit(submission())) for _ in range(3)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(writer.close())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="stopping"):
            await writer.submit(submission())
    await settled(*work)
    await closing
    assert len(stored_ids(rows)) == 4


async def test_bytes_are_bounded_as_tasks_are(database_url: str, rows: Rows, locked: Callable[[], Any]) -> None:
    def large() -> Request:
        one = submission()
        one.tasks[0].spec = {"num_outputs": 1, "texts": ["x" * 1000] * 100}
        return one

    async with writing(database_url, largest_batch_bytes=250_000, most_waiting_bytes=450_000) as writer:
        with locked():
            stuck = asyncio.create_task(writer.submit(large()))
            await until_blocked(rows)
            waiting = [asyncio.create_task(writer.submit(large())) for _ in range(4)]
            await asyncio.sleep(0)
            with pytest.raises(Unavailable, match="Too many"):
                await writer.submit(large())
        await settled(stuck, *waiting)
    assert len(stored_ids(rows)) == 5
    # One alone, and then two by two.
    together = rows("SELECT count(*) FROM tasks GROUP BY xmin ORDER BY min(created_at)")
    assert [row["count"] for row in together] == [1, 2, 2]


async def test_a_key_whose_row_is_cancelled_ends_nobody_elses_requests(writer: Door, rows: Rows) -> None:
    """Making it runs in the writer's own task, which a cancellation ends."""

    async def cancelled() -> IdempotencyKey:
        raise asyncio.CancelledError

    with pytest.raises(OutcomeUnknown):
        await writer.writer.submit(Submission((new_task(),), Key("cancelled", "same", cancelled)))
    stored = await asyncio.gather(*(writer.submit(submission()) for _ in range(3)))
    assert len(rows("SELECT id FROM tasks")) == len(stored) == 3
