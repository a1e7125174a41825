"""Reports of a job to its row, and the moment at which it is told to stop."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from compute.db.session import Database
from compute.errors import Conflict, NotFound, Unavailable
from compute.schemas.enums import ErrorCategory
from compute.schemas.events import PreprocessingStatusEvent, TrainingStatusEvent
from compute.schemas.training import TrainingStatus
from compute.tasks.ids import new_task_id
from compute.training.reporter import Reporter
from compute.training.rows.progress import JobReport
from compute.training.rows.queue import RetryRule, TrainingQueue
from compute.training.spec import TrainingSpec
from tests.integration.api.training.rows import cancel, change, deliveries, events, order, row, statuses
from tests.patience import NEVER, PATIENCE

HOOK = "http://127.0.0.1:9/hook"
PREPROCESSING, TRAINING = TrainingStatus.PREPROCESSING, TrainingStatus.TRAINING


class Reports:
    """Makes reports, and closes them."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self.made: list[JobReport] = []

    def __call__(self, training_id: UUID, fence: int = 1, **options: Any) -> JobReport:
        self.made.append(JobReport(self._url, training_id, fence, **options))
        return self.made[-1]


@pytest.fixture
def reports(database_url: str) -> Iterator[Reports]:
    reports = Reports(database_url)
    yield reports
    for report in reports.made:
        report.close()


async def begun(database: Database, **fields: Any) -> UUID:
    """A training that has been given its first job."""
    training_id = await order(database, **fields)
    (run,) = await TrainingQueue(database, RetryRule(3, 0)).take_next(1)
    assert (run.training_id, run.fence, run.attempt) == (training_id, 1, 1)
    return training_id


async def test_a_job_from_its_first_report_to_its_last(database: Database, reports: Reports) -> None:
    training_id = await begun(database, webhook_url=HOOK, epochs=2)
    report = reports(training_id)
    assert report.spec().id == training_id
    assert report.update({})
    assert report.enter(PREPROCESSING, total_files_count=3)
    assert report.update({"preprocessing_stage": "validating", "processed_files_count": 2})
    assert report.add_event({"rejected": ["a.txt"]})
    assert report.enter(TRAINING, total_steps=40, processed_dataset_path="training/x/dataset")
    assert report.update({"current_step": 10, "progress": 25.0, "metrics": {"loss": float("nan"), "epoch": 1}})
    assert report.add_event({"step": 10, "loss": float("inf")})
    seen = await row(database, training_id)
    assert (seen.status, seen.current_step, seen.progress, seen.total_steps) == ("TRAINING", 10, 25.0, 40)
    assert seen.metrics == {"loss": None, "epoch": 1}
    assert (seen.preprocessing_stage, seen.processed_files_count, seen.total_files_count) == (None, 2, 3)
    assert seen.started_at <= seen.preprocessing_started_at <= seen.preprocessing_completed_at
    assert report.complete({"local_model_path": "loras/products/x.safetensors", "current_step": 40})
    assert report.complete({}), "a try whose connection broke after its commit"
    seen = await row(database, training_id)
    assert (seen.status, seen.progress, seen.current_step) == ("COMPLETED", 100, 40)
    assert seen.completed_at is not None
    assert await statuses(database, training_id) == ["PENDING", "PREPROCESSING", "TRAINING", "COMPLETED"]
    told = {one.type: one.data for one in await events(database, training_id) if one.data}
    assert told["TRAINING_PROGRESS"] == {"step": 10, "loss": None}
    prepared = PreprocessingStatusEvent.model_validate(told["PREPROCESSING_STATUS"])
    assert (prepared.current_stage, prepared.processed_files_count) == ("validating", 2)
    assert prepared.metadata == {"rejected": ["a.txt"]}
    (delivery,) = await deliveries(database)
    event = TrainingStatusEvent.model_validate(delivery.payload)
    assert (event.status, event.local_model_path) == ("COMPLETED", "loras/products/x.safetensors")
    assert isinstance(event.completed_at, datetime)
    assert not report.update({"current_step": 41})
    assert not report.fail(ErrorCategory.INTERNAL, "too late")
    assert (await row(database, training_id)).current_step == 40


async def test_a_failure_keeps_what_there_is(database: Database, reports: Reports) -> None:
    training_id = await begun(database, webhook_url=HOOK)
    report = reports(training_id)
    report.enter(PREPROCESSING)
    report.update({"rejected_files": [{"file": "a.txt", "reason": "no picture"}]})
    assert report.fail(ErrorCategory.INVALID_INPUT, "dataset_url: no pictures\0 in it" + "!" * 5000)
    assert report.append_logs(["the last words"])
    seen = await row(database, training_id)
    assert (seen.status, seen.error_category) == ("FAILED", "INVALID_INPUT")
    assert seen.error_message.startswith("Invalid input: dataset_url: no pictures in it!")
    assert len(seen.error_message) == 2000
    assert seen.rejected_files == [{"file": "a.txt", "reason": "no picture"}]
    assert seen.logs == "the last words\n"
    (delivery,) = await deliveries(database)
    assert delivery.payload["error_category"] == "INVALID_INPUT"


async def test_after_a_cancel_nothing_counts(database: Database, reports: Reports) -> None:
    training_id = await begun(database, webhook_url=HOOK)
    report = reports(training_id)
    report.enter(PREPROCESSING)
    report.enter(TRAINING)
    await cancel(database, training_id)
    before = await row(database, training_id)
    assert not report.update({})
    assert not report.update({"current_step": 3})
    assert not report.append_logs(["late"])
    assert not report.add_event({"step": 3})
    assert not report.add_samples(3, [{"prompt": "a", "seed": 1, "path": "b"}])
    assert not report.saved(3)
    assert not report.enter(PREPROCESSING)
    assert not report.complete({"local_model_path": "x"})
    assert not report.fail(ErrorCategory.INTERNAL, "late")
    after = await row(database, training_id)
    assert (after.status, after.updated_at, after.logs) == ("CANCELLED", before.updated_at, "")
    assert (await statuses(database, training_id))[-1] == "CANCELLED"
    assert len(await deliveries(database)) == 1


async def test_a_job_that_was_taken_over_writes_nothing(database: Database, reports: Reports) -> None:
    training_id = await begun(database)
    old, new = reports(training_id), reports(training_id, 2)
    old.enter(PREPROCESSING)
    old.enter(TRAINING, total_steps=10)
    await change(database, training_id, fence=2)
    assert new.enter(PREPROCESSING)
    assert not old.update({"current_step": 9})
    assert not old.complete({})
    assert new.update({"current_step": 4})
    seen = await row(database, training_id)
    assert (seen.status, seen.current_step) == ("PREPROCESSING", 4)


async def test_what_the_table_forbids_is_refused(database: Database, reports: Reports) -> None:
    report = reports(await begun(database))
    with pytest.raises(Conflict, match="PENDING and cannot become TRAINING"):
        report.enter(TRAINING)
    report.enter(PREPROCESSING)
    with pytest.raises(Conflict, match="PREPROCESSING and cannot become COMPLETED"):
        report.complete({})
    with pytest.raises(ValueError, match="a job does not write fence"):
        report.update({"fence": 9})
    with pytest.raises(NotFound):
        reports(new_task_id()).spec()
    assert not reports(new_task_id()).update({"current_step": 1})


async def test_one_of_cancel_and_completion_wins(database: Database, reports: Reports) -> None:
    ends = []
    for _ in range(12):
        training_id = await begun(database, webhook_url=HOOK)
        report = reports(training_id)
        report.enter(PREPROCESSING)
        report.enter(TRAINING)
        completed, cancelled = await asyncio.gather(
            asyncio.to_thread(report.complete, {}), cancel(database, training_id), return_exceptions=True
        )
        assert completed is isinstance(cancelled, Conflict)
        ends.append((await row(database, training_id)).status)
        assert ends[-1] == ("COMPLETED" if completed else "CANCELLED")
        assert [one for one in await statuses(database, training_id) if one in ("COMPLETED", "CANCELLED")] == ends[-1:]
        await change(database, training_id, job_open=False)
        report.close()
    assert [one.payload["status"] for one in await deliveries(database)].count("COMPLETED") == ends.count("COMPLETED")
    assert len(await deliveries(database)) == len(ends)


async def test_the_end_of_the_log_is_kept(database: Database, reports: Reports) -> None:
    training_id = await begun(database)
    report = reports(training_id, log_bytes=100)
    for start in range(0, 60, 3):
        assert report.append_logs([f"line {start + place:02d} é" for place in range(3)])
    assert report.append_logs([])
    assert report.append_logs(["nul \0, half a pair \ud800"])
    lines = (await row(database, training_id)).logs.splitlines()
    assert lines[-2:] == ["line 59 é", "nul \N{REPLACEMENT CHARACTER}, half a pair ?"]
    assert all(line.startswith("line ") for line in lines[:-1])
    assert len(lines) > 4
    assert report.append_logs(["x" * 500])
    assert (await row(database, training_id)).logs == "x" * 99 + "\n"


async def test_samples_of_a_step_take_the_place_of_earlier_ones(database: Database, reports: Reports) -> None:
    training_id = await begun(database)
    report = reports(training_id)
    report.enter(PREPROCESSING)
    for step in (5, 10, 15, 10):
        assert report.add_samples(step, [{"prompt": p, "seed": 42, "path": f"{step}/{p}"} for p in "ab"])
    shown = [(one["step"], one["path"]) for one in (await row(database, training_id)).samples]
    assert shown == [(5, "5/a"), (5, "5/b"), (15, "15/a"), (15, "15/b"), (10, "10/a"), (10, "10/b")]


def by_hand(**fields: Any) -> TrainingSpec:
    return TrainingSpec.model_validate(
        {
            "id": new_task_id(),
            "output_name": "by-hand",
            "trigger_word": "zx",
            "model": {"name": "demo-flux", "source": "demo-flux"},
            "data": {"images": ["sets/a.png"]},
            "steps": 5,
        }
        | fields
    )


async def test_a_job_without_the_api_makes_its_row(database: Database, reports: Reports) -> None:
    spec = by_hand()
    report = reports(spec.id, 0)
    assert report.insert_if_missing(spec)
    assert report.enter(PREPROCESSING)
    seen = await row(database, spec.id)
    assert (seen.status, seen.total_steps, seen.request["output_name"]) == ("PREPROCESSING", 5, "by-hand")
    queue = TrainingQueue(database, RetryRule(3, 0))
    assert await queue.take_next(5) == [], "somebody runs it already"
    assert await queue.jobs() == [], "and nobody else watches it"
    again = reports(spec.id, 0)
    assert again.insert_if_missing(spec)
    assert again.fence == 1
    assert not report.update({"current_step": 1})
    assert again.enter(PREPROCESSING)
    assert again.enter(TRAINING)
    assert again.complete({})
    assert not reports(spec.id, 0).insert_if_missing(spec), "it has ended"


async def test_a_job_that_ray_knows_is_watched_and_not_taken_over(database: Database, reports: Reports) -> None:
    spec = by_hand()
    assert reports(spec.id, 0).insert_if_missing(spec, "train-by-hand")
    queue = TrainingQueue(database, RetryRule(3, 0))
    (run,) = await queue.running()
    assert (run.job_id, run.fence) == ("train-by-hand", 0)
    assert not reports(spec.id, 0).insert_if_missing(spec)


async def test_reports_survive_a_broken_connection(database: Database, database_url: str, reports: Reports) -> None:
    training_id = await begun(database)
    report = reports(training_id)
    assert report.enter(PREPROCESSING)
    async with await psycopg.AsyncConnection.connect(database.libpq_url, autocommit=True) as admin:
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'compute-training'"
        )
    assert report.update({"current_step": 1}), "dropped, and no reason to stop"
    assert await asyncio.to_thread(report.enter, TRAINING)
    assert (await row(database, training_id)).status == "TRAINING"


async def test_without_a_database_news_are_dropped_at_once() -> None:
    report = JobReport("postgresql://nobody@127.0.0.1:9/none", new_task_id(), patience_seconds=NEVER)
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.to_thread(report.update, {"current_step": 1})
        assert await asyncio.to_thread(report.append_logs, ["x"])


async def test_without_a_database_the_rest_waits_as_long_as_it_may() -> None:
    calls = 0

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"postgresql://nobody@127.0.0.1:{port}/none?sslmode=disable&gssencmode=disable"
        # Less than it rests between two attempts.
        report = JobReport(url, new_task_id(), patience_seconds=0.5)
        with pytest.raises(Unavailable, match=r"out of reach for 0\.5 s"):
            await asyncio.to_thread(report.fail, ErrorCategory.INTERNAL, "x")
    assert calls == 1


async def test_threads_share_a_report(database: Database, reports: Reports) -> None:
    training_id = await begun(database)
    report = reports(training_id)
    report.enter(PREPROCESSING)
    threads = [
        threading.Thread(target=lambda name=name: [report.append_logs([f"{name} {i}"]) for i in range(10)])
        for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    for _ in range(10):
        assert report.update({"current_step": 1})
    for thread in threads:
        thread.join()
    assert len((await row(database, training_id)).logs.splitlines()) == 40


@pytest.mark.parametrize("end", ["COMPLETED", "FAILED"])
async def test_a_training_that_its_job_has_ended_was_not_lost(end: str, database: Database, reports: Reports) -> None:
    training_id = await begun(database)
    report = reports(training_id)
    lost = threading.Event()
    reporter = Reporter(await asyncio.to_thread(report.spec), report, on_lost=lost.set)
    try:
        await asyncio.to_thread(reporter.enter, PREPROCESSING)
        await asyncio.to_thread(reporter.enter, TRAINING)
        reporter.log("the last line")
        if end == "COMPLETED":
            assert await asyncio.to_thread(reporter.complete, {"local_model_path": "loras/products/x.safetensors"})
        else:
            await asyncio.to_thread(reporter.fail, ErrorCategory.INTERNAL, "it broke")
        # Whoever asks now is told that the row has ended, as the thread that asks four times a second would be.
        await asyncio.to_thread(reporter.flush)
    finally:
        reporter.close()
    assert not lost.is_set()
    seen = await row(database, training_id)
    assert seen.status == end
    assert "the last line" in seen.logs


async def test_a_job_whose_training_was_cancelled_is_told(database: Database, reports: Reports) -> None:
    training_id = await begun(database)
    report = reports(training_id)
    lost = threading.Event()
    reporter = Reporter(await asyncio.to_thread(report.spec), report, on_lost=lost.set)
    try:
        await cancel(database, training_id)
        assert await asyncio.to_thread(lost.wait, PATIENCE)
        assert not await asyncio.to_thread(reporter.complete, {})
    finally:
        reporter.close()
