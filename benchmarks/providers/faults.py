"""Faults of vendors, thousands of seeded ones: `python -m benchmarks.providers.faults --runs 10000 --seed 1`.

Every run is a task at a provider, over a stand-in of its vendor on loopback: one or two faults are played at random
points of its calls, and in a quarter of the runs the process ends at a random moment. It runs again as the Dispatcher's
retry policy says, four times at most. Afterwards the vendor's side says whether anything was paid twice or lost. The
second half plays single faults, again and again, with the vendors' own clients in their default settings.
"""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import arguments, machine, print_table, say
from benchmarks.providers import clients
from tests.providers.seeded.chances import chance_of
from tests.providers.seeded.judging import wrongs
from tests.providers.seeded.lanes import Ended, KeyWatch, Lane, keys, open_lane

_LANES = 16
_SHOWN = 20


@dataclass
class Tally:
    """What became of all runs of one provider."""

    tasks: int = 0
    mishaps: int = 0
    kills: int = 0
    posts: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    resent: int = 0
    """Paid requests that were repeated though nobody knew what had become of the first."""
    wrong: int = 0

    def note(self, ended: Ended, wrong: list[str]) -> None:
        self.tasks += 1
        self.mishaps += len(ended.stand_in.faults.played) + len(ended.chance.at("job"))
        self.kills += ended.kills
        self.posts += ended.stand_in.submits
        self.ends[ended.final if ended.final in ("done", "doubt") else "failed"] += 1
        self.resent += sum("submitted again" in one for one in wrong)
        self.wrong += len(wrong)


def main() -> None:
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--runs", type=int, default=10_000, help="tasks (10000)")
    parser.add_argument("--seed", type=int, default=1, help="of the random choices (1)")
    parser.add_argument("--first", type=int, default=0, help="number of the first, to repeat one that went wrong (0)")
    parser.add_argument("--only", choices=("ours", "clients"), help="only one half")
    options = parser.parse_args()
    if options.quick:
        options.runs = 200
    say(machine())
    wrong = 0
    if options.only != "clients":
        wrong = run_seeded(options)
    if options.only != "ours":
        asyncio.run(clients.compare(quick=options.quick))
    sys.exit(1 if wrong else 0)


def run_seeded(options: argparse.Namespace) -> int:
    """Run all chances and print what became of them; the number of things that were wrong."""
    watch = KeyWatch(keys())
    logger = logging.getLogger()
    level = logger.level
    logger.addHandler(watch)
    logger.setLevel(logging.DEBUG)
    tallies: dict[str, Tally] = {}
    found: list[str] = []
    began = time.perf_counter()
    try:
        numbers = iter(range(options.first, options.first + options.runs))
        asyncio.run(_run_all(options.seed, numbers, tallies, found))
    finally:
        logger.setLevel(level)
        logger.removeHandler(watch)
    found += [f"a log record says a key: {one}" for one in watch.found]
    report(tallies, found, time.perf_counter() - began, options)
    return len(found)


async def _run_all(seed: int, numbers: Iterator[int], tallies: dict[str, Tally], found: list[str]) -> None:
    async def work(lane: Lane) -> None:
        for number in numbers:
            ended = await lane.run(chance_of(seed, number))
            wrong = wrongs(ended)
            tallies.setdefault(ended.chance.subject.provider, Tally()).note(ended, wrong)
            found.extend(wrong)

    async def open_and_work(folder: Path) -> None:
        async with open_lane(folder) as lane:
            await work(lane)

    with tempfile.TemporaryDirectory(prefix="compute-bench-") as folder:
        await asyncio.gather(*(open_and_work(Path(folder) / str(nth)) for nth in range(_LANES)))


def report(tallies: dict[str, Tally], found: list[str], seconds: float, options: argparse.Namespace) -> None:
    columns = (
        "",
        "tasks",
        "faults",
        "kills",
        "paid requests",
        "done",
        "in doubt",
        "failed",
        "sent again in doubt",
        "wrong",
    )
    rows = [(name, *_cells(tally)) for name, tally in sorted(tallies.items())]
    total = Tally()
    for tally in tallies.values():
        for name in ("tasks", "mishaps", "kills", "posts", "resent", "wrong"):
            setattr(total, name, getattr(total, name) + getattr(tally, name))
        total.ends += tally.ends
    print_table(
        f"{options.runs} tasks with seed {options.seed}, in {seconds:.0f} s",
        columns,
        [*rows, ("all", *_cells(total))],
    )
    say(
        "\nIn doubt: the vendor may have done it, and no answer tells; it is not sent again, and waits for news or for "
        "an operator. Failed: the vendor's last word was no, or it never ended.\n"
        "Wrong: sent again in doubt, a result that was there and was not collected, another category than the "
        "fault's, the vendor's words or id missing, a key told, or a run that was late."
    )
    for one in found[:_SHOWN]:
        say(f"WRONG {one}")


def _cells(tally: Tally) -> tuple[str, ...]:
    ends = (tally.ends[one] for one in ("done", "doubt", "failed"))
    return tuple(map(str, (tally.tasks, tally.mishaps, tally.kills, tally.posts, *ends, tally.resent, tally.wrong)))


if __name__ == "__main__":
    main()
