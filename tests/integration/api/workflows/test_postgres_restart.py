"""The database server is stopped and started again while workflows run."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from compute.db.embedded import server as embedded
from compute.db.migrations.upgrade import upgrade
from compute.db.session import Database
from compute.db.tables import Task
from tests.integration.api.workflows.conftest import SubjectPainter, draw, post
from tests.patience import PATIENCE


class Server:
    """A server of the test's own that can be restarted under one address."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._server = embedded.start(home)
        self.url = self._server.url

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server = embedded.start(self._home)
        assert self._server.url == self.url


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    upgrade(server.url)
    yield server
    server.stop()


@pytest.fixture
def database_url(server: Server) -> str:
    return server.url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


async def test_workflows_finish_though_the_server_restarts(
    api: httpx.AsyncClient, worker: SubjectPainter, engine: None, server: Server, database: Database
) -> None:
    worker.seconds_per_step = 0.01
    ids = [await post(api, draw("a", config={"steps": 30}), draw("b", "a"), draw("c", "b")) for _ in range(4)]
    async with asyncio.timeout(PATIENCE):
        while worker.steps_done < 20:
            await asyncio.sleep(0.02)
    await asyncio.to_thread(server.stop)
    async with asyncio.timeout(PATIENCE):
        while (await api.get(f"/workflows/{ids[0]}")).status_code != 503:
            await asyncio.sleep(0.02)
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(PATIENCE):
        for workflow_id in ids:
            while (answer := await api.get(f"/workflows/{workflow_id}")).json().get("status") != "COMPLETED":
                assert answer.json().get("status") != "FAILED", answer.text
                await asyncio.sleep(0.2)
    async with database.transaction() as session:
        rows = await session.execute(select(Task.step_id, Task.status))
    assert Counter(tuple(row) for row in rows) == {(step, "COMPLETED"): 4 for step in "abc"}
