"""One look at a server: queues, workers, counts, and the tasks that run or have failed."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
    queues, workers, stats, running, failed = _together(
        lambda: _list(client, "queues"),
        lambda: _list(client, "workers"),
        lambda: _monitored(client, "stats"),
        lambda: _tasks(client, "EXECUTING", MOST_TASKS),
        lambda: _tasks(client, "FAILED", MOST_FAILURES),
    )
    return Snapshot(time.monotonic(), queues, workers, stats, running, failed)


def _together(*asked: Callable[[], Any]) -> list[Any]:
    """What the functions return, called side by side.

    Raises:
        Exception: the first of them that fails.
    """
    found: list[Any] = [None] * len(asked)
    faults: list[Exception] = []

    def ask(number: int) -> None:
        try:
            found[number] = asked[number]()
        except Exception as error:  # raised below, in the thread that asked
            faults.append(error)

    # Daemons, unlike the threads of a pool: a server that hangs keeps nobody who wants to leave.
    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return found


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
