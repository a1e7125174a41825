"""One look at a server: queues, workers, counts, and the tasks that run or have failed."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from compute.cli.answers import plain

if TYPE_CHECKING:
    from compute.client import Compute

__all__ = ["Snapshot", "look"]

Json = Mapping[str, Any]
MOST_TASKS = 50
MOST_FAILURES = 10


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a server said.

    Attributes:
        at: When, in seconds of this machine's monotonic clock.
        running: Tasks that are being executed; `failed` the newest ones that failed.
    """

    at: float
    queues: Sequence[Json]
    workers: Sequence[Json]
    stats: Json
    running: Sequence[Json]
    failed: Sequence[Json]

    def as_json(self) -> dict[str, Any]:
        """For programs: without the time of a clock that only this process knows."""
        return {name: value for name, value in asdict(self).items() if name != "at"}

    def done(self) -> int:
        """Tasks that have ended, whatever their end."""
        counts = self.stats.get("by_status") or {}
        return sum(int(counts.get(name) or 0) for name in ("COMPLETED", "FAILED", "CANCELLED"))


def look(client: "Compute") -> Snapshot:
    """Ask the server everything at the same time.

    Raises:
        ClientError: it does not answer, or refuses.
    """
    with ThreadPoolExecutor(5, thread_name_prefix="look") as threads:
        queues = threads.submit(_list, client, "queues")
        workers = threads.submit(_list, client, "workers")
        stats = threads.submit(_monitored, client, "stats")
        running = threads.submit(_tasks, client, "EXECUTING", MOST_TASKS)
        failed = threads.submit(_tasks, client, "FAILED", MOST_FAILURES)
        return Snapshot(
            time.monotonic(), queues.result(), workers.result(), stats.result(), running.result(), failed.result()
        )


def _list(client: "Compute", name: str) -> Sequence[Json]:
    return [one for one in _monitored(client, name).get(name) or [] if isinstance(one, dict)]


def _monitored(client: "Compute", name: str) -> Json:
    from compute.client import UnexpectedAnswer

    found = client.request("GET", f"/monitoring/{name}")
    if not isinstance(found, dict):
        raise UnexpectedAnswer("the server does not answer as this API does")
    return found


def _tasks(client: "Compute", status: str, most: int) -> Sequence[Json]:
    return [plain(task) for task in islice(client.tasks.list(status=status, page_size=most), most)]
