"""The supervisor's view of the rows: chooses the trainings that get a Ray job next, and records lost jobs.

An open training without a job gets one, under a new fence. All supervisors together run at most `limit` jobs
at a time; they choose one after another. A higher priority comes first, then the tenant with fewer jobs, then the older
training. A lost job is followed by another one, up to a number of losses without a new checkpoint between them.
"""

# ruff: noqa: S608 - the parts of these statements are constants; values are parameters

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import text

from compute.db.session import Database
from compute.events.outbox.trainings import CALL_BACK_TRAININGS, LOG_TRAININGS
from compute.schemas.enums import ErrorCategory, EventType
from compute.schemas.training import TrainingStatus
from compute.training.states import ENDED_TRAININGS, OPEN_TRAININGS, sources_of

__all__ = ["Loss", "RetryRule", "TrainingQueue", "TrainingRun"]

_LOCK = 5_270_042_113
"""Key of the advisory lock that is taken while choosing."""
_LONGEST_REASON = 500


def _values(statuses: frozenset[TrainingStatus]) -> str:
    return ", ".join(f"'{status}'" for status in sorted(statuses))


_OPEN, _ENDED = _values(OPEN_TRAININGS), _values(ENDED_TRAININGS)
_SHOWN = (
    "trainings.id, trainings.fence, trainings.job_id, trainings.status, trainings.attempts, trainings.submitted_at, "
    "trainings.completed_at, trainings.request->>'output_name' AS output_name, trainings.traceparent"
)

_TAKE = f"""
WITH jobs AS (
    SELECT tenant, count(*) AS held FROM trainings WHERE job_open AND job_id IS NOT NULL GROUP BY tenant
), ready AS (
    SELECT id, priority, created_at,
           coalesce(held, 0) + row_number() OVER (PARTITION BY tenant ORDER BY priority DESC, created_at, id) AS turn
      FROM trainings LEFT JOIN jobs USING (tenant)
     WHERE status IN ({_OPEN}) AND NOT job_open AND run_after <= statement_timestamp()
), chosen AS (
    SELECT trainings.id FROM ready JOIN trainings USING (id)
     ORDER BY ready.priority DESC, ready.turn, ready.created_at, ready.id
     LIMIT greatest(:limit - (SELECT coalesce(sum(held), 0) FROM jobs), 0)
       FOR UPDATE OF trainings SKIP LOCKED
)
UPDATE trainings
   SET fence = fence + 1, attempts = attempts + 1, job_open = true,
       job_id = format('train-%s-%s-%s', request->>'output_name', replace(trainings.id::text, '-', ''), fence + 1),
       submitted_at = statement_timestamp(), updated_at = statement_timestamp()
  FROM chosen
 WHERE trainings.id = chosen.id AND status IN ({_OPEN}) AND NOT job_open
RETURNING {_SHOWN}
"""
_JOBS = f"SELECT {_SHOWN} FROM trainings WHERE job_open AND job_id IS NOT NULL ORDER BY submitted_at, id"

_FAILABLE = ", ".join(f"'{status}'" for status in sources_of(TrainingStatus.FAILED))
_LOST = f"""
WITH moved AS (
    UPDATE trainings
       SET fence = fence + 1, job_open = false, losses = losses + 1, eta_seconds = NULL,
           run_after = statement_timestamp() + least(:backoff * 2 ^ least(losses, 30), :longest) * interval '1 s',
           status = CASE WHEN losses >= :retries THEN '{TrainingStatus.FAILED}' ELSE status END,
           error_category = CASE WHEN losses >= :retries THEN '{ErrorCategory.INTERNAL}' END,
           error_message = CASE WHEN losses >= :retries
                                THEN format('The training''s job was lost %s times, the last time: %s',
                                            losses + 1, CAST(:reason AS text)) END,
           completed_at = CASE WHEN losses >= :retries THEN statement_timestamp() END,
           updated_at = statement_timestamp()
     WHERE id = :id AND fence = :fence AND job_open AND status IN ({_FAILABLE})
    RETURNING *
), told AS (
    INSERT INTO training_events (training_id, type, status, data)
    SELECT id, '{EventType.TRAINING_PROGRESS}', status,
           jsonb_build_object('lost_job', job_id, 'reason', CAST(:reason AS text))
      FROM moved
), logged AS ({LOG_TRAININGS} WHERE status = '{TrainingStatus.FAILED}'
), called AS ({CALL_BACK_TRAININGS} AND status = '{TrainingStatus.FAILED}')
SELECT status FROM moved
"""
_STOPPED = f"""
UPDATE trainings SET job_open = false
 WHERE id = :id AND job_id = :job_id AND job_open AND status IN ({_ENDED}) RETURNING id
"""


class Loss(Enum):
    """The consequence of a lost job."""

    AGAIN = "again"
    FAILED = "failed"
    NOT_OURS = "not ours"


@dataclass(frozen=True, slots=True)
class RetryRule:
    """Limits of retrying: `max_retries` losses without a new checkpoint; the n-th new job waits `backoff_seconds` ·
    2ⁿ⁻¹, at
    most `longest_seconds`."""

    max_retries: int
    backoff_seconds: float
    longest_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A training with its Ray job, submitted or to be submitted.

    Attributes:
        fence: The fence for the job's reports.
        job_id: The job's submission id, which begins with the name of the result.
        attempt: The number of the job among the training's jobs, from 1.
        submitted_at: The time when the training was taken for it.
        ended_at: The time when the training ended, if it has.
        output_name: The name of the result.
        traceparent: What continues the trace of the request that made it.
    """

    training_id: UUID
    fence: int
    job_id: str
    status: TrainingStatus
    attempt: int
    submitted_at: datetime
    ended_at: datetime | None
    output_name: str
    traceparent: str | None = None


class TrainingQueue:
    """The queue of trainings, for any number of supervisors. Raises DatabaseAway while the server is out of reach."""

    def __init__(self, database: Database, rule: RetryRule) -> None:
        self._database = database
        self._rule = rule

    async def take_next(self, limit: int) -> list[TrainingRun]:
        """Assign jobs to waiting trainings while there are fewer than `limit`; the caller submits them."""
        async with self._database.transaction() as session:
            # A statement sees the rows committed before it began, so the choice is a second statement after the lock.
            await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            taken = await session.execute(text(_TAKE), {"limit": limit})
            return [_run(row) for row in taken]

    async def jobs(self) -> list[TrainingRun]:
        """Return the jobs that may still exist, also of trainings that have ended."""
        async with self._database.transaction() as session:
            return [_run(row) for row in await session.execute(text(_JOBS))]

    async def running(self) -> list[TrainingRun]:
        """Return the jobs of open trainings, to be watched."""
        return [run for run in await self.jobs() if run.status in OPEN_TRAININGS]

    async def to_stop(self) -> list[TrainingRun]:
        """Return the jobs of ended trainings, to be stopped unless they end by themselves."""
        return [run for run in await self.jobs() if run.status in ENDED_TRAININGS]

    async def stopped(self, run: TrainingRun) -> bool:
        """Record that the job of an ended training no longer exists; return False if that was known."""
        async with self._database.transaction() as session:
            found = await session.execute(text(_STOPPED), {"id": run.training_id, "job_id": run.job_id})
            return found.first() is not None

    async def lost(self, run: TrainingRun, reason: str) -> Loss:
        """Record that the job of an open training ended, or never existed. It must not be running any more.

        Returns the consequence: another job, or the training has FAILED with `reason`. NOT_OURS: the training has ended
        meanwhile, or has another job.
        """
        given: dict[str, Any] = {
            "id": run.training_id,
            "fence": run.fence,
            "retries": self._rule.max_retries,
            "backoff": self._rule.backoff_seconds,
            "longest": self._rule.longest_seconds,
            "reason": reason.replace("\0", "")[:_LONGEST_REASON],
        }
        async with self._database.transaction() as session:
            status = await session.scalar(text(_LOST), given)
        if status is None:
            return Loss.NOT_OURS
        return Loss.FAILED if status == TrainingStatus.FAILED else Loss.AGAIN


def _run(row: Any) -> TrainingRun:
    return TrainingRun(
        training_id=row.id,
        fence=row.fence,
        job_id=row.job_id,
        status=TrainingStatus(row.status),
        attempt=row.attempts,
        submitted_at=row.submitted_at,
        ended_at=row.completed_at,
        output_name=row.output_name,
        traceparent=row.traceparent,
    )
