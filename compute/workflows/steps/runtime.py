"""A step runner with everything that it holds open."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

from compute.db.session import Database
from compute.events.notify import Notifier
from compute.media.loader import MediaLoader
from compute.outbound.client import GuardedClient
from compute.requests.serving import Serving
from compute.settings import Settings
from compute.storage.base import ObjectStore
from compute.storage.factory import open_store
from compute.storage.links.secret import load_link_secrets
from compute.storage.links.signed import LinkSigner
from compute.workflows.rows.journal import PostgresJournalStore
from compute.workflows.steps.journal import Journal
from compute.workflows.steps.requests import StepRequests
from compute.workflows.steps.reuse import Reuse
from compute.workflows.steps.room import StepRoom
from compute.workflows.steps.runner import StepRunner
from compute.workflows.steps.task_ends import PostgresEndStore, TaskEnds

__all__ = ["open_runner"]


@dataclass(frozen=True, slots=True)
class _Sources:
    settings: Settings
    objects: ObjectStore
    media: MediaLoader
    link_signer: LinkSigner


@contextlib.asynccontextmanager
async def open_runner(
    settings: Settings, serving: Serving, on_failure: Callable[[BaseException], None], *, links_at: str
) -> AsyncIterator[StepRunner]:
    """Open connections and start the loops that all steps share; closed when the block ends. `on_failure` is told of
    a loop that ended by an error: no step could ever end without it. `links_at` is the route of links to stored files.

    Raises:
        ValueError: DATABASE_URL is not set, or the storage settings are incomplete.
    """
    if not settings.database_url:
        raise ValueError("DATABASE_URL is not set")
    async with contextlib.AsyncExitStack() as stack:
        database = Database.of(settings)
        stack.push_async_callback(database.close)
        objects = open_store(settings)
        stack.push_async_callback(objects.close)
        client = await stack.enter_async_context(
            GuardedClient(settings.media_allowed_hosts, settings.media_timeout_seconds)
        )
        journal, ends = Journal(PostgresJournalStore(database)), TaskEnds(PostgresEndStore(database))
        notifier = Notifier(database)
        loops = [asyncio.create_task(loop) for loop in (journal.run(), ends.run(), notifier.run())]
        for loop in loops:
            loop.add_done_callback(partial(_report, on_failure))
            stack.push_async_callback(_stop, loop)
        secrets = await asyncio.to_thread(load_link_secrets, settings)
        sources = _Sources(settings, objects, MediaLoader(settings, client), LinkSigner(links_at, secrets))
        requests = StepRequests(sources, serving, database, notifier)
        yield StepRunner(journal, ends, requests, Reuse(database, objects), StepRoom(database))


def _report(on_failure: Callable[[BaseException], None], loop: asyncio.Task[None]) -> None:
    if not loop.cancelled() and (error := loop.exception()) is not None:
        on_failure(error)


async def _stop(loop: asyncio.Task[None]) -> None:
    loop.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await loop
