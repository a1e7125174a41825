"""The roll of all workers: what replicas tell of themselves, and which of them Ray still has, as rows."""

import asyncio
import logging
from uuid import UUID

from sqlalchemy import func, select

from compute.db.away import DatabaseAway
from compute.db.keys import one_of
from compute.db.session import Database
from compute.db.tables import Training
from compute.deployments.replicas import ReplicaDirectory
from compute.monitoring.workers import note
from compute.training.rows.queue import TrainingQueue
from compute.worker.vitals import Station, Tally, Vitals

__all__ = ["SupervisorRoll", "WorkerRoll"]

_log = logging.getLogger(__name__)
_SECONDS = 2.0


class WorkerRoll:
    """Keeps the latest of each worker until it is written, every two seconds."""

    def __init__(
        self, database: Database, directory: ReplicaDirectory, cluster: str, *, seconds: float = _SECONDS
    ) -> None:
        """`cluster`: the name of the Ray cluster that `directory` knows."""
        self._database = database
        self._cluster = cluster
        self._directory = directory
        self._seconds = seconds
        self._heard: dict[str, Vitals] = {}

    def heard_of(self, vitals: Vitals) -> None:
        """Take note of what a worker tells."""
        self._heard[vitals.station.id] = vitals

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            try:
                await self._write()
            except DatabaseAway as error:
                _log.warning("workers are noted later, the database is out of reach: %s", error)
            await asyncio.sleep(self._seconds)

    async def _write(self) -> None:
        # What cannot be written is old by the time that it could be.
        heard, self._heard = self._heard, {}
        alive = self._directory.alive
        known = () if alive is None else self._directory.deployments
        await note(
            self._database,
            heard.values(),
            cluster=self._cluster,
            application=self._directory.application,
            deployments=known,
            alive=alive or (),
        )


class SupervisorRoll:
    """Notes a supervisor of trainings, which works for one queue and whose tasks are Ray jobs."""

    def __init__(
        self,
        database: Database,
        queue: TrainingQueue,
        station: Station,
        *,
        cluster: str,
        application: str,
        seconds: float = _SECONDS,
    ) -> None:
        """`cluster` and `application`: the names of the Ray cluster and of Serve's application that it is a part of."""
        self._database = database
        self._queue = queue
        self._station = station
        self._cluster = cluster
        self._application = application
        self._seconds = seconds
        self._tally = Tally()
        self._running: set[UUID] = set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            try:
                await self._write()
            except DatabaseAway as error:
                _log.warning("the supervisor is noted later, the database is out of reach: %s", error)
            await asyncio.sleep(self._seconds)

    async def _write(self) -> None:
        running = {run.training_id for run in await self._queue.running()}
        ended = self._running - running
        self._running = running
        if ended:
            async with self._database.transaction() as session:
                completed = select(func.count()).where(one_of(Training.id, ended), Training.status == "COMPLETED")
                self._tally.complete((await session.execute(completed)).scalar_one())
        self._tally.held = self._tally.begun = len(running)
        told = await asyncio.to_thread(self._tally.told, self._station)
        await note(self._database, [told], cluster=self._cluster, application=self._application)
