"""Writes a training's progress to its row. Every write is one statement, and so one transaction with its event and
webhook.

A write takes effect only while the row has the job's fence and the training has not ended: a job that is late, after a
cancel or after another job took over, changes nothing and is told so. While the database is away, progress is dropped
and everything else waits.
"""

# ruff: noqa: S608 - the parts of these statements are constants and names of columns; values are parameters

import math
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from compute.errors import Conflict, NotFound
from compute.events.outbox.trainings import CALL_BACK_TRAININGS, LOG_TRAININGS, preprocessing_payload
from compute.schemas.enums import ErrorCategory, EventType, TaskPriority
from compute.schemas.training import TrainingStatus
from compute.training.request import request_of
from compute.training.rows.connection import ReportLink
from compute.training.spec import TrainingSpec
from compute.training.states import ENDED_TRAININGS, OPEN_TRAININGS, sources_of

__all__ = ["COLUMNS", "JobReport"]

COLUMNS = frozenset(
    {
        "progress",
        "current_step",
        "total_steps",
        "eta_seconds",
        "preprocessing_stage",
        "processed_files_count",
        "total_files_count",
        "preprocessing_started_at",
        "preprocessing_completed_at",
        "processed_dataset_path",
        "local_model_path",
        "rejected_files",
        "metrics",
        "samples",
        "loss_plot_path",
    }
)
"""Columns that a job may write."""

_LONGEST_MESSAGE = 2000
_NOW = "statement_timestamp()"
"""The time of a write, equal in all of its columns."""
_OURS = "id = %(id)s AND fence = %(fence)s"
_OPEN = ", ".join(f"'{status}'" for status in sorted(OPEN_TRAININGS))
_GOING = f"{_OURS} AND status IN ({_OPEN})"

_ENTERED = {
    TrainingStatus.PREPROCESSING: {
        "started_at": f"coalesce(started_at, {_NOW})",
        "preprocessing_started_at": _NOW,
        "preprocessing_completed_at": "NULL",
        "preprocessing_stage": "NULL",
        "eta_seconds": "NULL",
    },
    TrainingStatus.TRAINING: {"preprocessing_completed_at": _NOW, "preprocessing_stage": "NULL"},
}
_ENDED = {
    "completed_at": _NOW,
    "preprocessing_stage": "NULL",
    "eta_seconds": "NULL",
    # Only the supervisor closes the jobs that it has submitted.
    "job_open": "job_open AND job_id IS NOT NULL",
}

_APPEND_LOGS = f"""
UPDATE trainings
   SET logs = CASE WHEN length(logs) + length(%(text)s::text) <= %(most)s::int THEN logs || %(text)s::text
                   ELSE regexp_replace(right(logs || %(text)s::text, %(most)s::int), '^[^\\n]*\\n(?=.)', '') END
 WHERE {_OURS} RETURNING id
"""
_ADD_EVENT = f"""
WITH moved AS (SELECT * FROM trainings WHERE {_GOING} FOR SHARE)
INSERT INTO training_events (training_id, type, status, data)
SELECT id,
       CASE status WHEN '{TrainingStatus.PREPROCESSING}' THEN '{EventType.PREPROCESSING_STATUS}'
                   ELSE '{EventType.TRAINING_PROGRESS}' END,
       status,
       CASE status WHEN '{TrainingStatus.PREPROCESSING}'
                   THEN {preprocessing_payload("%(data)s")}
                   ELSE %(data)s END
  FROM moved RETURNING training_id
"""
_ADD_SAMPLES = f"""
UPDATE trainings
   SET samples = (SELECT coalesce(jsonb_agg(one ORDER BY ordinal), '[]')
                    FROM jsonb_array_elements(samples) WITH ORDINALITY AS kept(one, ordinal)
                   WHERE (one->>'step')::int <> %(step)s::int) || %(new)s,
       updated_at = {_NOW}
 WHERE {_GOING} RETURNING id
"""
_SAVED = f"""
UPDATE trainings
   SET losses = CASE WHEN %(step)s::int > checkpoint_step THEN 0 ELSE losses END,
       checkpoint_step = greatest(checkpoint_step, %(step)s::int)
 WHERE {_GOING} RETURNING id
"""
_INSERT = f"""
WITH moved AS (
    INSERT INTO trainings (id, tenant, status, priority, spec, request, total_steps, origin_instance, fence, job_id,
                           job_open, attempts, submitted_at)
    VALUES (%(id)s, 'default', '{TrainingStatus.PENDING}', {TaskPriority.NORMAL:d}, %(spec)s, %(request)s, %(steps)s,
            'default', %(fence)s, %(job_id)s, true, 1, {_NOW})
    ON CONFLICT (id) DO NOTHING RETURNING *
), logged AS ({LOG_TRAININGS})
SELECT fence FROM moved
"""
# No job of the supervisor works on it, and a job run by hand is excluded by the new fence.
_TAKE_OVER = f"""
UPDATE trainings
   SET fence = fence + 1, job_id = %(job_id)s, job_open = true, attempts = attempts + 1,
       submitted_at = {_NOW}, updated_at = {_NOW}
 WHERE id = %(id)s AND status IN ({_OPEN}) AND (NOT job_open OR job_id IS NULL)
RETURNING fence
"""


class JobReport:
    """Access of one job to its training's row, from any thread.

    Its methods return False once the row no longer belongs to the job (it was cancelled, or taken over); then the job
    must
    stop.

    Raises (all methods):
        Unavailable: the database was away for longer than `patience_seconds`. Never from `update`, `append_logs` and
            `add_event`, which drop their data and return True meanwhile.
    """

    def __init__(
        self,
        database_url: str,
        training_id: UUID,
        fence: int = 0,
        *,
        log_bytes: int = 64 * 1024,
        patience_seconds: float = 600.0,
        pooled: bool = False,
    ) -> None:
        """Report on `training_id` as the job of this fence; no connection is made yet."""
        self.training_id = training_id
        self.fence = fence
        self._link = ReportLink(database_url, patience_seconds, pooled=pooled)
        self._log_bytes = log_bytes

    def spec(self) -> TrainingSpec:
        """Return the spec of the training.

        Raises:
            NotFound: there is no such training.
        """
        found = self._link.rows("SELECT spec FROM trainings WHERE id = %(id)s", self._given())
        if not found:
            raise NotFound(f"There is no training {self.training_id}.")
        return TrainingSpec.model_validate(found[0][0])

    def insert_if_missing(self, spec: TrainingSpec, job_id: str | None = None) -> bool:
        """Create the row of a job that was started without the API, or take over one without a job, under a new fence.
        Returns
        False if another job works on it, or it has ended.

        Args:
            spec: The training.
            job_id: The Ray job's submission id, by which the supervisor watches it and submits it again when it is
                lost. Without one it is not watched.
        """
        given = self._given() | {
            "spec": _json(spec.model_dump(mode="json")),
            "request": _json(request_of(spec)),
            "steps": spec.steps or 0,
            "job_id": job_id,
        }
        found = self._link.rows(_INSERT, given) or self._link.rows(_TAKE_OVER, given)
        if found:
            self.fence = found[0][0]
        return bool(found)

    def enter(self, status: TrainingStatus, **columns: Any) -> bool:
        """Enter PREPROCESSING or TRAINING, with its times; `columns` are further ones of `COLUMNS`.

        Raises:
            Conflict: the present status forbids it.
        """
        return self._move(status, _ENTERED[status], columns)

    def update(self, columns: Mapping[str, Any]) -> bool:
        """Write progress, in columns of `COLUMNS`. Without any it only checks whether the row still belongs to the
        job."""
        values = _assigned(columns)
        statement = f"UPDATE trainings SET {_sets(values)}updated_at = {_NOW} WHERE {_GOING} RETURNING id"
        if not columns:
            statement = f"SELECT id FROM trainings WHERE {_GOING}"
        return self._news(statement, values)

    def append_logs(self, lines: Iterable[str]) -> bool:
        """Append lines to the log, whose last `log_bytes` characters are kept, from the start of a line on.

        It also works after the end, as long as no other job has taken over.
        """
        text = "".join(f"{line}\n" for line in lines).replace("\0", "\N{REPLACEMENT CHARACTER}")
        text = text.encode("utf-8", "replace").decode()
        return self._news(_APPEND_LOGS, {"text": text, "most": self._log_bytes}) if text else self.update({})

    def add_event(self, data: Mapping[str, Any]) -> bool:
        """Add an event: while PREPROCESSING a PREPROCESSING_STATUS with `data` as its metadata, later a
        TRAINING_PROGRESS."""
        return self._news(_ADD_EVENT, {"data": _json(data)})

    def add_samples(self, step: int, samples: Iterable[Mapping[str, Any]]) -> bool:
        """Add images generated after `step`, each with `prompt`, `seed` and `path`. They replace those of an earlier
        job after
        the same step."""
        new = [{"step": step, **sample} for sample in samples]
        return bool(self._link.rows(_ADD_SAMPLES, self._given() | {"step": step, "new": _json(new)}))

    def saved(self, step: int) -> bool:
        """Record a checkpoint. A later one than all before is progress, so the count of lost jobs starts again at 0."""
        return bool(self._link.rows(_SAVED, self._given() | {"step": step}))

    def complete(self, columns: Mapping[str, Any]) -> bool:
        """Enter COMPLETED with the result, above all `local_model_path`, and queue the webhook."""
        return self._move(TrainingStatus.COMPLETED, _ENDED, {"progress": 100.0, **columns})

    def fail(self, category: ErrorCategory, message: str) -> bool:
        """Enter FAILED for good and queue the webhook; results so far stay."""
        if category is ErrorCategory.INVALID_INPUT and not message.startswith("Invalid input"):
            message = f"Invalid input: {message}"
        message = message.replace("\0", "").encode("utf-8", "replace").decode()[:_LONGEST_MESSAGE]
        sets = _ENDED | {"error_category": "%(category)s", "error_message": "%(message)s"}
        return self._move(TrainingStatus.FAILED, sets, {}, category=category.value, message=message)

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def _move(self, status: TrainingStatus, sets: Mapping[str, str], columns: Mapping[str, Any], **values: Any) -> bool:
        """Change the status, with its event and, at an end, the webhook; `columns` are assigned before `sets`."""
        given, also = _assigned(columns), {name: value for name, value in sets.items() if name not in columns}
        called = f", called AS ({CALL_BACK_TRAININGS})" if status in ENDED_TRAININGS else ""
        statement = f"""
        WITH moved AS (
            UPDATE trainings SET {_sets(given)}{"".join(f"{name} = {value}, " for name, value in also.items())}
                   status = %(to)s, updated_at = {_NOW}
             WHERE {_OURS} AND status = ANY(%(sources)s) RETURNING *
        ), logged AS ({LOG_TRAININGS}){called}
        SELECT id FROM moved
        """
        moves = self._given() | given | values | {"to": status.value, "sources": sources_of(status)}
        return bool(self._link.rows(statement, moves)) or self._stands(status)

    def _stands(self, status: TrainingStatus) -> bool:
        """Return whether a change that matched no row had been made by an earlier try whose connection broke.

        Raises:
            Conflict: the training is still this job's, and cannot enter that status.
        """
        found = self._link.rows(f"SELECT status FROM trainings WHERE {_OURS}", self._given())
        present = TrainingStatus(found[0][0]) if found else None
        if present is None or present is status or present in ENDED_TRAININGS:
            return present is status
        raise Conflict(f"Training {self.training_id} is {present} and cannot become {status}.")

    def _news(self, statement: str, values: Mapping[str, Any]) -> bool:
        found = self._link.rows_or_none(statement, self._given() | dict(values))
        return found is None or bool(found)

    def _given(self) -> dict[str, Any]:
        return {"id": self.training_id, "fence": self.fence}


def _assigned(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns and their values in the database's types.

    Raises:
        ValueError: a job may not write one of them.
    """
    if unknown := columns.keys() - COLUMNS:
        raise ValueError(f"a job does not write {', '.join(sorted(unknown))}")
    return {name: _json(value) if isinstance(value, dict | list) else value for name, value in columns.items()}


def _sets(columns: Iterable[str]) -> str:
    return "".join(f"{name} = %({name})s, " for name in columns)


def _json(value: Any) -> Jsonb:
    return Jsonb(_finite(value))


def _finite(value: Any) -> Any:
    """The value with null for numbers that are not finite, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
