"""Common parts of all benchmarks: a Postgres of their own, interleaved rounds, medians and tables.

A figure is meaningful only next to another one from the same minutes: every benchmark runs its arms in
turns, prints the ratio, and shows the range of the rounds next to the median.
"""

import argparse
import os
import platform
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

import psutil
import psycopg
from psycopg import sql

from compute.db.embedded.server import start
from compute.db.migrations.upgrade import upgrade
from compute.db.session import normal_url
from compute.stack.cluster.environment import PATIENCE

__all__ = [
    "Server",
    "arguments",
    "as_nice_as_ray",
    "interleave",
    "median",
    "postgres",
    "print_table",
    "ratio",
    "say",
    "spread",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Server:
    """A Postgres that ends with the benchmark. `home` is a temporary folder."""

    home: Path
    url: str

    def database(self, name: str) -> str:
        """Create and migrate an empty database; return its URL."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = normal_url(self.url).set(drivername="postgresql", database=name).render_as_string(hide_password=False)
        upgrade(url)
        return url


def arguments(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small settings, to check that it runs")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"interleaved rounds ({rounds})")
    return parser


@contextmanager
def postgres() -> Iterator[Server]:
    """Run an embedded server on data of its own, removed afterwards."""
    # `kill` would end Python without running any `finally`; this way it raises an exception.
    signal.signal(signal.SIGTERM, _leave)
    say(machine())
    with tempfile.TemporaryDirectory(prefix="compute-bench-") as folder:
        server = start(Path(folder) / "database")
        try:
            yield Server(Path(folder), server.url)
        finally:
            server.stop()


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def machine() -> str:
    """Describe the machine and the time of the measurement in one line."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, Python {platform.python_version()};"
        f" load average before the start {os.getloadavg()[0]:.1f}"
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def interleave(arms: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Run every arm once a round. Each round starts with another arm, so that a slow minute affects all equally.

    Example:
        times = interleave({"old": run_old, "new": run_new}, rounds=5)
        print_table("time", ["arm", "s"], [[name, spread(seconds, 2)] for name, seconds in times.items()])
    """
    results: dict[str, list[T]] = {name: [] for name in arms}
    names = list(arms)
    for number in range(rounds):
        say(f"  round {number + 1} of {rounds}")
        first = number % len(names)
        for name in names[first:] + names[:first]:
            results[name].append(arms[name]())
    return results


def as_nice_as_ray() -> None:
    """Give this process the priority of Ray's workers, once.

    On a machine with fewer cores than busy processes the scheduler would otherwise favour processes outside Ray.
    """
    name = "RAY_worker_niceness"
    os.nice(int(os.environ.get(name, PATIENCE[name])))


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Format the median and the range of the values."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def ratio(values: Sequence[float], base: Sequence[float]) -> str:
    """Format the median of the ratios within each round."""
    return f"{median([value / other for value, other in zip(values, base, strict=True)]):.2f}x"


def say(text: str) -> None:
    print(text, flush=True)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column is text, aligned left, the others are figures, aligned right."""
    widths = [max(len(row[index]) for row in [columns, *rows]) for index in range(len(columns))]
    say(f"\n{title}")
    for row in [columns, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        say("  ".join(cells).rstrip())
