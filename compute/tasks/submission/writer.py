"""Group commit: requests that arrive together are stored by one transaction, and each is answered after it.

A transaction costs about the same with one task and with a hundred, and almost all of it is waiting for the disk. So
one writer a process has one connection. It writes at once when it is idle; what arrives meanwhile is its next batch.

What can go wrong, and who notices:

a faulty task                   its batch is halved until it stands alone: its neighbours are stored, it is refused
the database is away            all who wait are refused at once; nothing was stored
it is slow                      newcomers are refused when too much waits, and all when a statement runs out of time
somebody locks a key's use      what counts against it waits five seconds and is refused, and nobody else's does
the connection is lost midway   the batch is written again with the same ids, until the outcome is known
a client leaves                 its request is dropped while it waits; once it is being written, it is stored
the process stops               what waits is still written; newcomers are refused
"""

import asyncio
import logging
from collections.abc import Sequence
from contextvars import Context
from functools import partial
from math import inf

from compute.db.away import DatabaseAway
from compute.db.direct import DirectConnection
from compute.db.group_commit import GroupCommit, Load
from compute.db.session import Database
from compute.db.tables import IdempotencyKey
from compute.errors import ComputeError, LimitReached, Unavailable
from compute.events import notify
from compute.events.notify import Notifier
from compute.tasks.submission.full import FullQuotas
from compute.tasks.submission.rows import Key, KeyExpired, KeyReused, Outcome, Submission, size_of, write
from compute.telemetry.ids import bound

__all__ = ["AWAY", "Key", "KeyExpired", "KeyReused", "OutcomeUnknown", "Submission", "TaskWriter"]

AWAY = "The database does not answer; try again."

_log = logging.getLogger(__name__)
_LARGEST_BATCH = 500
_MOST_WAITING = 5000
_LARGEST_BATCH_BYTES = 16 * 2**20
_MOST_WAITING_BYTES = 256 * 2**20
_OUTCOME_SECONDS = 5.0
_PAUSE_SECONDS = 0.1
_STOP_SECONDS = 8.0
_LOCKED_SECONDS = 5.0
_TOLD_AT_A_TIME = 20


class OutcomeUnknown(DatabaseAway):
    """The connection was lost during a write; whether that took effect could not be found out."""

    def __init__(
        self, detail: str = "The database was lost while it stored this, and whether it did is not known."
    ) -> None:
        super().__init__(detail)


class TaskWriter:
    """Stores what an ingress process accepts. Tasks and their bytes are counted, not submissions; a submission that is
    larger than a batch is one of its own.

    Attributes:
        full: Whose quotas had no room lately.
    """

    def __init__(
        self,
        database: Database,
        notifier: Notifier,
        *,
        largest_batch: int = _LARGEST_BATCH,
        most_waiting: int = _MOST_WAITING,
        largest_batch_bytes: int = _LARGEST_BATCH_BYTES,
        most_waiting_bytes: int = _MOST_WAITING_BYTES,
        outcome_seconds: float = _OUTCOME_SECONDS,
    ) -> None:
        """Connect to nothing yet. `outcome_seconds` is how long the outcome of a write is looked for after the
        connection was lost."""
        self._connection = DirectConnection(database, by_key=False, idle_seconds=inf)
        self._notifier = notifier
        self._outcome_seconds = outcome_seconds
        self._most = Load(largest_batch, largest_batch_bytes)
        self._most_waiting = Load(most_waiting, most_waiting_bytes)
        self._writes = self._new_writes()
        self._writing: asyncio.Task[None] | None = None
        self._held: set[str] = set()
        self.full = FullQuotas()
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
        self._keep_writing()
        try:
            outcome = await self._writes.put(submission)
        except OutcomeUnknown:
            raise
        except DatabaseAway as error:
            raise Unavailable(AWAY) from error
        if isinstance(outcome, ComputeError):
            if isinstance(outcome, LimitReached):
                self.full.note(submission.quotas)
            raise outcome
        if outcome.earlier is None:
            await _tell(submission)
        return outcome.earlier

    async def close(self) -> None:
        """Refuse what comes, write what waits, and close the connection."""
        self._closed = True
        self._writes.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                if self._writing is not None:
                    await self._writing
        except TimeoutError:
            _log.error("stopped before every waiting task was stored; their clients were refused")
        await self._connection.close()

    def _keep_writing(self) -> None:
        """Begin to write; again after an end that nobody asked for: making a key's row may have been cancelled."""
        if self._writing is not None and self._writing.done():
            _log.error("storing tasks had ended, and is begun again")
            self._writes, self._writing = self._new_writes(), None
        if self._writing is None:
            # It outlives this request and has no part in its transaction.
            self._writing = asyncio.create_task(self._writes.run(), name="storing tasks", context=Context())

    def _new_writes(self) -> GroupCommit[Submission, Outcome]:
        return GroupCommit(
            self._write,
            id,
            given_up=Unavailable(AWAY),
            in_doubt=OutcomeUnknown(),
            most=self._most,
            most_waiting=self._most_waiting,
            load=_load,
            patience_seconds=_LOCKED_SECONDS,
            waits=False,
        )

    async def _write(self, batch: Sequence[Submission]) -> list[Outcome | None]:
        """Store `batch`, if need be again until the outcome is known.

        Raises:
            OutcomeUnknown: the connection was lost, and not to be had again in time.
            DatabaseAway: the database is away or too slow; nothing was stored.
            psycopg.Error: the database refused the content; nothing was stored.
        """
        loop = asyncio.get_running_loop()
        lost_at: float | None = None
        while True:
            try:
                outcomes = await self._connection.run(
                    partial(write, batch=batch, again=lost_at is not None, held=self._held)
                )
            except DatabaseAway as error:
                if lost_at is None and not error.in_doubt:
                    raise
                lost_at = lost_at or loop.time()
                if loop.time() > lost_at + self._outcome_seconds:
                    raise OutcomeUnknown from error
                _log.warning("the connection was lost during a write, which is repeated: %s", error)
            else:
                for queue in {task.queue for submission in batch for task in submission.tasks}:
                    self._notifier.notify(notify.READY, queue)
                return outcomes
            await asyncio.sleep(_PAUSE_SECONDS)


async def _tell(submission: Submission) -> None:
    """A line for each task that was accepted."""
    if not _log.isEnabledFor(logging.INFO):
        return
    for index, task in enumerate(submission.tasks, start=1):
        with bound(task_id=task.id, workflow_id=task.workflow_id):
            _log.info("task accepted: %s for %s, priority %d", task.task_type, task.queue, task.priority)
        if index % _TOLD_AT_A_TIME == 0:
            # Other requests have their turn.
            await asyncio.sleep(0)


def _load(submission: Submission) -> Load:
    return Load(len(submission.tasks), sum(map(size_of, submission.tasks)))
