"""Our two ways to run a graph of tasks: as a workflow, and by hand, by a client that submits each task in order."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from benchmarks.harness import as_nice_as_ray
from benchmarks.peers.arm import connect, run_on_uvloop
from benchmarks.workflows.rows import check_tasks, check_workflows, clear, ended_at, open_workflows
from benchmarks.workflows.shapes import SERVING, WARM_UP, Shape, definition, fields
from compute.db.session import Database
from compute.db.tables import Task
from compute.events import notify
from compute.events.notify import Notifier
from compute.media.loader import MediaLoader
from compute.outbound.client import GuardedClient
from compute.requests.inputs import RequestInputs
from compute.requests.request import TaskRequest
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.storage.factory import open_store
from compute.storage.links.signed import LinkSigner
from compute.tasks.registry import find_kind
from compute.tasks.submission.writer import Submission, TaskWriter
from compute.workflows.definition.check import check_workflow
from compute.workflows.rows import store
from compute.workflows.steps.task_ends import PostgresEndStore, TaskEnds

__all__ = ["by_hand", "store_all", "workflows"]

_CLIENTS = 8
_LOOK_SECONDS = 0.02
_PATIENCE_SECONDS = 300.0


def workflows(url: str, shape: Shape) -> float:
    """Return the seconds from the first stored workflow to the last completed one."""
    as_nice_as_ray()
    run_on_uvloop(_workflows(url, WARM_UP))
    return run_on_uvloop(_workflows(url, shape))


def by_hand(url: str, home: Path, shape: Shape) -> float:
    """Return the seconds from the first created task to the end of the last one, as seen by the client."""
    as_nice_as_ray()
    run_on_uvloop(_by_hand(url, home, WARM_UP))
    return run_on_uvloop(_by_hand(url, home, shape))


async def _workflows(url: str, shape: Shape) -> float:
    clear(url)
    began = time.time()
    await store_all(url, shape)
    deadline = began + _PATIENCE_SECONDS
    with connect(url) as connection:
        while (left := open_workflows(connection)) and time.time() < deadline:  # noqa: ASYNC110 - there is no notification
            await asyncio.sleep(_LOOK_SECONDS)
        if left:
            raise RuntimeError(f"{left} workflows have not ended")
        seconds = ended_at(connection) - began
    check_workflows(url, shape)
    return seconds


async def store_all(url: str, shape: Shape) -> None:
    """Check and store every workflow of the shape as the API does, by a few clients at once, and notify of each."""
    async with _sending(url) as (database, sender):

        async def store_some(count: int) -> None:
            for _ in range(count):
                wanted = definition(shape)
                checked = check_workflow(wanted, SERVING, {})
                async with database.transaction() as session:
                    await store.create(session, wanted, checked, taken={})
                sender.notify(notify.WORKFLOW)

        shares = [len(range(client, shape.workflows, _CLIENTS)) for client in range(_CLIENTS)]
        await asyncio.gather(*map(store_some, shares))
        # A client that closes now would lose its last notification.
        await asyncio.sleep(_LOOK_SECONDS)


@dataclass(frozen=True, slots=True)
class _Client:
    """A client with the resources of an ingress process, which follows tasks as a step runner does."""

    settings: Settings
    objects: ObjectStore
    media: MediaLoader
    writer: TaskWriter
    ends: TaskEnds
    link_signer: LinkSigner = field(default=LinkSigner("/files/", ()))

    async def run(self, shape: Shape) -> None:
        """Run one graph. A task is submitted once its dependencies are done, with a prompt from the first."""
        running: dict[str, asyncio.Task[str]] = {}
        for step, parents in shape.parents.items():
            running[step] = asyncio.create_task(self._step([running[parent] for parent in parents]))
        await asyncio.gather(*running.values())

    async def _step(self, parents: Sequence["asyncio.Task[str]"]) -> str:
        paths = [await parent for parent in parents]
        kind = find_kind("GENERATION")
        body = fields(paths[0] if paths else None) | {"origin_instance": "benchmark"}
        request = TaskRequest.of(kind, body, SERVING)
        inputs = RequestInputs(self, request.served)
        task = await request.to_row(inputs)
        await inputs.keep()
        await self.writer.submit(Submission([task]))
        return _path(await self.ends.of([task.id]))


async def _by_hand(url: str, home: Path, shape: Shape) -> float:
    clear(url)
    settings = Settings(database_url=url, home=home, api_key=SecretStr("benchmark-key-long-enough"))
    async with contextlib.AsyncExitStack() as stack:
        database, sender = await stack.enter_async_context(_sending(url))
        objects = open_store(settings)
        stack.push_async_callback(objects.close)
        web = await stack.enter_async_context(GuardedClient(settings.media_allowed_hosts, 10))
        writer, ends = TaskWriter(database, sender), TaskEnds(PostgresEndStore(database))
        stack.push_async_callback(writer.close)
        await stack.enter_async_context(_working(ends.run()))
        client = _Client(settings, objects, MediaLoader(settings, web), writer, ends)
        began = time.time()
        await asyncio.gather(*(client.run(shape) for _ in range(shape.workflows)))
        seconds = time.time() - began
    check_tasks(url, shape.steps)
    return seconds


def _path(ended: Sequence[Task | None]) -> str:
    task = ended[0]
    if task is None or task.result is None:
        raise RuntimeError("a task has ended without a result")
    path: str = task.result["artifacts"][0]["path"]
    return path


@asynccontextmanager
async def _sending(url: str) -> AsyncIterator[tuple[Database, Notifier]]:
    database = Database(url)
    sender = Notifier(database)
    async with _working(sender.run()):
        yield database, sender
    await database.close()


@asynccontextmanager
async def _working(loop: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    work = asyncio.create_task(loop)
    try:
        yield
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
