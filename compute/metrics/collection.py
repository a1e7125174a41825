"""One collection of all metrics at a time, shared by the scrapes of a second."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from contextvars import Context
from dataclasses import dataclass, field

from compute import __version__
from compute.db.away import DatabaseAway
from compute.db.session import Database
from compute.metrics import families as of
from compute.metrics.cluster import read_cluster
from compute.metrics.exposition import exposed, media_type_for
from compute.metrics.families import Sample
from compute.metrics.sums import read_sums
from compute.tasks.usage import USAGE_METRIC
from compute.telemetry.instruments import Labels, Sums

__all__ = ["Collected", "MetricCollection"]

_log = logging.getLogger(__name__)
AllSums = dict[str, dict[Labels, Sums]]


@dataclass(frozen=True, slots=True)
class Collected:
    """The outcome of one collection. It is written once for each format, however many ask."""

    samples: list[Sample]
    sums: AllSums
    written: dict[str, bytes] = field(default_factory=dict)

    def text(self, accept: str) -> tuple[bytes, str]:
        """As Prometheus reads it, and the media type."""
        media_type = media_type_for(accept)
        if media_type not in self.written:
            self.written[media_type] = exposed(self.samples, self.sums, media_type)
        return self.written[media_type], media_type


class MetricCollection:
    """However many scrape, rows are read once a second at most, and no scrape waits longer than `patience_seconds`.

    While the database is away, `compute_database_up` is 0, and only what this process knows by itself is there.
    """

    def __init__(
        self,
        database: Database,
        *,
        served: Collection[str],
        currency: str,
        own: Callable[[], Iterable[Sample]],
        fresh_seconds: float = 1.0,
        patience_seconds: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`served` are the queues that have workers by the configuration; `own` is what this process knows."""
        self._database = database
        self._served = served
        self._currency = currency
        self._own = own
        self._fresh_seconds = fresh_seconds
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._collecting: asyncio.Task[Collected] | None = None
        self._ended_at = -float("inf")

    async def collect(self) -> Collected:
        """What there is now, or was within the last second."""
        work = self._collecting
        if work is None or (work.done() and self._clock() - self._ended_at >= self._fresh_seconds):
            work = self._collecting = asyncio.create_task(
                # It has no part in the request that happened to be the first.
                self._collect(),
                name="collecting metrics",
                context=Context(),
            )
        # One that gives up must not end it for the others.
        return await asyncio.shield(work)

    async def close(self) -> None:
        """Stop collecting."""
        if self._collecting is not None:
            self._collecting.cancel()
            await asyncio.gather(self._collecting, return_exceptions=True)

    async def _collect(self) -> Collected:
        began = time.perf_counter()
        samples: list[Sample] = []
        sums: AllSums = {}
        try:
            samples, sums = await self._read_in_time()
            is_up = 1
        except (DatabaseAway, TimeoutError) as error:
            _log.warning("metrics are without the database: %s", error)
            is_up = 0
        samples += self._of_sums(sums)
        samples += [Sample(of.DATABASE_UP, is_up), Sample(of.INFO, 1, (__version__,)), *self._own()]
        samples.append(Sample(of.SCRAPE_SECONDS, time.perf_counter() - began))
        self._ended_at = self._clock()
        return Collected(samples, sums)

    async def _read_in_time(self) -> tuple[list[Sample], AllSums]:
        """What is in the database.

        Raises:
            DatabaseAway: it is away.
            TimeoutError: it takes too long. To end a statement of a silent server takes seconds, too: that is not
                waited for.
        """
        reading = asyncio.create_task(self._read(), name="reading metrics")
        reading.add_done_callback(_note_end)
        try:
            done, _ = await asyncio.wait({reading}, timeout=self._patience_seconds)
            if not done:
                raise TimeoutError("no answer in time")
            return reading.result()
        finally:
            reading.cancel()

    async def _read(self) -> tuple[list[Sample], AllSums]:
        async with self._database.transaction() as session:
            return list(await read_cluster(session, self._served)), await read_sums(session)

    def _of_sums(self, sums: AllSums) -> Iterable[Sample]:
        """What is counted in rows for ever."""
        for family in (of.TASKS_CREATED, of.TASKS_ENDED):
            for labels, counted in sorted(sums.get(family.name, {}).items()):
                yield Sample(family, counted.total, labels)
        for (provider, unit), used in sorted(sums.get(USAGE_METRIC, {}).items()):
            if unit == "amount":
                yield Sample(of.COST, used.total, (provider, self._currency))
            else:
                yield Sample(of.USAGE, used.total, (provider, unit))


def _note_end(reading: "asyncio.Task[tuple[list[Sample], AllSums]]") -> None:
    """Who has given it up does not look at its error."""
    if not reading.cancelled():
        reading.exception()
