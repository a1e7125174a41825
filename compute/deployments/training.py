"""The supervisor of trainings as a Serve deployment: one Ray job for each, watched until its training has ended.

PENDING row ──take──▶ submit `python -m compute.training.job --task … --fence …` ──watch──▶ the job reports itself
                                    ▲                                              │
                                    └────────────── again, if the job is lost ◀────┘
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import ray
from ray import serve
from ray.job_submission import JobStatus, JobSubmissionClient
from ray.serve.handle import DeploymentHandle

from compute.api.paths import API
from compute.db.migrations.revision import require_schema
from compute.db.session import Database
from compute.deployments.args import TrainingArgs
from compute.deployments.kept import KeptLoops
from compute.deployments.process import begin_process, cluster_name, end_process
from compute.deployments.roll import SupervisorRoll
from compute.deployments.warming.loras import warm_lora
from compute.events import notify
from compute.events.ticker import Ticker
from compute.monitoring.queues import TRAINING_QUEUE
from compute.settings import get_settings
from compute.telemetry.ids import bound
from compute.telemetry.tracing import current_traceparent, span
from compute.training.rows.queue import Loss, RetryRule, TrainingQueue, TrainingRun
from compute.worker.vitals import Station

__all__ = ["SUPERVISOR", "RayJobs", "TrainingDeployment", "entrypoint", "job_metadata"]

T = TypeVar("T")

_log = logging.getLogger(__name__)
SUPERVISOR = "Training"
"""The deployment's name."""

JOBS_AWAY = (RuntimeError, OSError)
"""Errors of Ray's job API when it cannot be reached, or refuses."""

_UNKNOWN_JOB = "Request failed with status code 404:"
"""How the error of Ray's client begins that tells of an answer 404. What follows may repeat the job's id, and with it
words that users have chosen."""

_PERIOD_SECONDS = 1.0
_REST_SECONDS = 0.2
_SUBMISSION_SECONDS = 60.0
"""Seconds that a job may be unknown to Ray after its row was taken, before it counts as lost."""
_ANSWER_SECONDS = 30.0
_STOP_SECONDS = 5.0
"""Seconds that the job of a training that has ended may take to end by itself."""


class TrainingDeployment:
    """Submits, watches and stops jobs until the replica is stopped. The jobs go on without it."""

    async def __init__(self, args: TrainingArgs, pools: list[DeploymentHandle]) -> None:  # type: ignore[misc]
        """`pools`: handles of the replicas that generate images, and can keep LoRAs in memory."""
        settings = get_settings()
        begin_process(settings)
        if not settings.database_url:
            raise ValueError("DATABASE_URL is not set")
        await asyncio.to_thread(require_schema, settings.database_url)
        self._args = args
        self._pools = pools
        self._database = Database.of(settings)
        rule = RetryRule(settings.max_retries, settings.retry_backoff_seconds)
        self._queue = TrainingQueue(self._database, rule)
        context = serve.get_replica_context()
        self._name = f"{context.app_name}/{context.deployment}"
        self._cluster = ray.get_runtime_context().gcs_address
        self._jobs = RayJobs(self._cluster, settings.public_url or settings.local_url)
        ticker = Ticker(
            notify.waking(self._database, [notify.TRAINING]),
            _PERIOD_SECONDS,
            rest=_REST_SECONDS,
            tick=self._supervise,
            wanted=lambda: True,
        )
        ticker.wake()
        self._loops = KeptLoops()
        self._loops.work("supervising trainings", ticker.run())
        if args.jobs:
            name = f"{context.deployment}#{context.replica_id.unique_id}"
            station = Station(name, (TRAINING_QUEUE,), args.jobs, args.jobs)
            roll = SupervisorRoll(
                self._database, self._queue, station, cluster=cluster_name(), application=context.app_name
            )
            self._loops.observe("noting the supervisor", roll.run)

    async def warm(self, path: str) -> int:
        """Let every replica that can use it read a stored LoRA; returns how many have."""
        return await warm_lora(self._pools, path)

    def check_health(self) -> None:
        """Called by Serve at intervals; a loop that ended means that this replica must be replaced, unless
        it only observes.

        Raises:
            RuntimeError: it has ended.
        """
        self._loops.check()

    async def _supervise(self) -> None:
        """Check all trainings once."""
        for run in await self._queue.take_next(self._args.jobs):
            with bound(training_id=run.training_id), span("submit job", parent=run.traceparent):
                await self._submit(run)
        for run in await self._queue.running():
            with bound(training_id=run.training_id):
                await self._watch(run)
        for run in await self._queue.to_stop():
            with bound(training_id=run.training_id):
                await self._stop(run)

    async def _submit(self, run: TrainingRun) -> None:
        _log.info("submitting %s for training %s, attempt %d", run.job_id, run.training_id, run.attempt)
        try:
            await self._jobs.submit(run, entrypoint(run, self._args, self._name, self._cluster))
        except JOBS_AWAY as error:
            # If it has not arrived, it counts as lost after `_SUBMISSION_SECONDS`.
            _log.warning("job %s could not be submitted: %s", run.job_id, error)

    async def _watch(self, run: TrainingRun) -> None:
        try:
            status = await self._jobs.status(run)
        except JOBS_AWAY as error:
            # The state is unknown: the job may well be running.
            _log.warning("no status of %s: %s", run.job_id, error)
            return
        if status is None:
            age = (datetime.now(UTC) - run.submitted_at).total_seconds()
            if age > _SUBMISSION_SECONDS:
                await self._lost(run, "Ray does not know its job")
        elif status.is_terminal():
            # Its last report may be on its way, but it is sent before the process ends.
            await self._lost(run, await self._reason(run, status))

    async def _lost(self, run: TrainingRun, reason: str) -> None:
        what = await self._queue.lost(run, reason)
        if what is not Loss.NOT_OURS:
            _log.warning("job %s of training %s was lost (%s): %s", run.job_id, run.training_id, reason, what.value)

    async def _stop(self, run: TrainingRun) -> None:
        try:
            status = await self._jobs.status(run)
            if status is None or status.is_terminal():
                await self._queue.stopped(run)
                return
            ended = run.ended_at or run.submitted_at
            if (datetime.now(UTC) - ended).total_seconds() > _STOP_SECONDS:
                _log.info("stopping %s: its training is %s", run.job_id, run.status)
                await self._jobs.stop(run)
        except JOBS_AWAY as error:
            _log.warning("job %s cannot be stopped now: %s", run.job_id, error)

    async def _reason(self, run: TrainingRun, status: JobStatus) -> str:
        try:
            return f"its job is {status.value}: {(await self._jobs.message(run))[-300:]}"
        except JOBS_AWAY:
            return f"its job is {status.value}"

    async def __del__(self) -> None:
        """Awaited by Serve when the replica is stopped gracefully."""
        await self._loops.close()
        await self._database.close()
        await end_process()


class RayJobs:
    """Ray's job API, contacted on first use: an application without trainings works without a dashboard."""

    def __init__(self, address: str, api_url: str) -> None:
        self._address = address
        self._api_url = api_url
        self._opened: JobSubmissionClient | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jobs")

    async def submit(self, run: TrainingRun, command: str) -> None:
        about = job_metadata(run, self._api_url)
        client = await self._client()
        await self._call(partial(client.submit_job, entrypoint=command, submission_id=run.job_id, metadata=about))

    async def status(self, run: TrainingRun) -> JobStatus | None:
        """None if Ray does not know the job."""
        try:
            return await self._call(partial((await self._client()).get_job_status, run.job_id))
        except RuntimeError as error:
            if str(error).startswith(_UNKNOWN_JOB):
                return None
            raise

    async def message(self, run: TrainingRun) -> str:
        info = await self._call(partial((await self._client()).get_job_info, run.job_id))
        return info.message or ""

    async def stop(self, run: TrainingRun) -> None:
        await self._call(partial((await self._client()).stop_job, run.job_id))

    async def _client(self) -> JobSubmissionClient:
        if self._opened is None:
            self._opened = await self._call(partial(JobSubmissionClient, self._address))
        return self._opened

    async def _call(self, call: Callable[[], T]) -> T:
        """Call Ray's client in a thread. It waits as long as the dashboard is silent, so a late call is abandoned.

        Raises:
            TimeoutError: the dashboard did not answer.
        """
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except TimeoutError:
            self._opened, self._thread = None, ThreadPoolExecutor(1, thread_name_prefix="jobs")
            raise TimeoutError(f"Ray's dashboard did not answer for {_ANSWER_SECONDS:g} s") from None


def job_metadata(run: TrainingRun, api_url: str) -> dict[str, str]:
    """What Ray's job API and dashboard tell of a job: whose it is, and where the API answers for it."""
    return {
        "name": f"training {run.output_name}",
        "training": str(run.training_id),
        "output_name": run.output_name,
        "attempt": str(run.attempt),
        "api_url": f"{api_url}{API}/training/{run.training_id}",
    }


def entrypoint(run: TrainingRun, args: TrainingArgs, supervisor: str, cluster: str) -> str:
    """The job's command line.

    It names the cluster, because Ray gives a job the address of any cluster that it finds on the job's machine.
    """
    options = {
        "task": run.training_id,
        "fence": run.fence,
        "workers": args.workers,
        "cpus": args.cpus_per_worker,
        "gpus": args.gpus_per_worker,
        "memory-gb": args.memory_gb_per_worker,
        "supervisor": supervisor,
        "cluster": cluster,
    }
    if run.traceparent is not None:
        options["traceparent"] = current_traceparent() or run.traceparent
    words = " ".join(f"--{name} {value}" for name, value in options.items())
    return f"{sys.executable} -m compute.training.job {words}"
