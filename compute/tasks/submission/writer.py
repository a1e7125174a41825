"""Group commit: requests that arrive together are stored by one transaction, and each is answered after it.

A transaction costs about the same with one task and with a hundred, and almost all of it is waiting for the disk. So
one writer a process has one connection. It writes at once when it is idle; what arrives meanwhile is its next batch.

What can go wrong, and who notices:

a faulty task                   its batch is halved until it stands alone: its neighbours are stored, it is refused
the database is away            503 at once to all who wait; nothing was stored
it is slow                      503 to newcomers when too much waits, and to all when a statement runs out of time
the connection is lost midway   the batch is written again with the same ids, until the outcome is known
a client leaves                 its request is dropped while it waits; once it is being written, it is stored
the process stops               what waits is still written; newcomers are refused
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compute.db.session import Database
from compute.db.tables import IdempotencyKey
from compute.errors import ComputeError, Unavailable
from compute.events import notify
from compute.events.notify import Notifier
from compute.tasks.submission.connection import AWAY, OUTCOME_SECONDS, OutcomeUnknown, WriteLink
from compute.tasks.submission.rows import Key, KeyExpired, KeyReused, Outcome, Submission, size_of

__all__ = ["Key", "KeyExpired", "KeyReused", "OutcomeUnknown", "Submission", "TaskWriter"]

_log = logging.getLogger(__name__)
_LARGEST_BATCH = 500
_MOST_WAITING = 5000
_LARGEST_BATCH_BYTES = 16 * 2**20
_MOST_WAITING_BYTES = 256 * 2**20
_STOP_SECONDS = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    submission: Submission
    size: int
    outcome: asyncio.Future[Outcome]

    def fail(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


class TaskWriter:
    """Stores what an ingress process accepts. Tasks and their bytes are counted, not submissions; a submission that is
    larger than a batch is one of its own."""

    def __init__(
        self,
        database: Database,
        notifier: Notifier,
        *,
        largest_batch: int = _LARGEST_BATCH,
        most_waiting: int = _MOST_WAITING,
        largest_batch_bytes: int = _LARGEST_BATCH_BYTES,
        most_waiting_bytes: int = _MOST_WAITING_BYTES,
        outcome_seconds: float = OUTCOME_SECONDS,
    ) -> None:
        self._link = WriteLink(database, outcome_seconds=outcome_seconds)
        self._notifier = notifier
        self._largest_batch = largest_batch
        self._most_waiting = most_waiting
        self._largest_batch_bytes = largest_batch_bytes
        self._most_waiting_bytes = most_waiting_bytes
        self._waiting: deque[_Entry] = deque()
        self._count = 0
        self._bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(self, submission: Submission) -> IdempotencyKey | None:
        """Store a submission, unless another one with its key was stored before, whose row is returned then. Returns
        after the commit.

        Raises:
            KeyReused: its key came with another submission before.
            KeyExpired: its key was dropped at this moment; nothing was stored.
            OutcomeUnknown: the connection was lost, and whether it is stored is not known.
            Unavailable: the database is away or too slow, or the process stops. Nothing was stored.
        """
        if self._closed:
            raise Unavailable("This server is stopping; try again.")
        size = sum(map(size_of, submission.tasks))
        if self._waiting and (
            self._count + len(submission.tasks) > self._most_waiting or self._bytes + size > self._most_waiting_bytes
        ):
            raise Unavailable("Too many requests wait for the database; try again.")
        entry = _Entry(submission, size, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        self._count += len(submission.tasks)
        self._bytes += size
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all(), name="storing tasks")
        outcome = await entry.outcome
        if isinstance(outcome, ComputeError):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Refuse what comes, write what waits, and close the connection."""
        self._closed = True
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                if self._writing is not None:
                    await self._writing
        except TimeoutError:
            _log.error("stopped before every waiting task was stored; their clients got 503")
        await self._link.close()

    async def _write_all(self) -> None:
        batch: list[_Entry] = []
        try:
            while batch := self._next_batch():
                await self._write(batch)
        finally:
            # Somebody is left without an outcome only when this was cancelled.
            self._refuse(batch, OutcomeUnknown())
            self._refuse(self._waiting, Unavailable(AWAY))

    def _next_batch(self) -> list[_Entry]:
        """The oldest, without those whose client has left."""
        batch: list[_Entry] = []
        count = size = 0
        while self._waiting:
            entry = self._waiting[0]
            count += len(entry.submission.tasks)
            size += entry.size
            if batch and (count > self._largest_batch or size > self._largest_batch_bytes):
                break
            self._waiting.popleft()
            self._count -= len(entry.submission.tasks)
            self._bytes -= entry.size
            if not entry.outcome.done():
                batch.append(entry)
        return batch

    async def _write(self, batch: Sequence[_Entry]) -> None:
        try:
            outcomes = await self._link.write([entry.submission for entry in batch])
        except Unavailable as error:
            self._refuse(batch, error)
            self._refuse(self._waiting, Unavailable(AWAY))
        except Exception as error:
            if len(batch) == 1:
                batch[0].fail(error)
                return
            middle = len(batch) // 2
            await self._write(batch[:middle])
            await self._write(batch[middle:])
        else:
            self._settle(batch, outcomes)

    def _settle(self, batch: Sequence[_Entry], outcomes: Sequence[Outcome]) -> None:
        for entry, outcome in zip(batch, outcomes, strict=True):
            if not entry.outcome.done():
                entry.outcome.set_result(outcome)
        for queue in {task.queue for entry in batch for task in entry.submission.tasks}:
            self._notifier.notify(notify.READY, queue)

    def _refuse(self, entries: Iterable[_Entry], error: Unavailable) -> None:
        for entry in entries:
            entry.fail(error)
