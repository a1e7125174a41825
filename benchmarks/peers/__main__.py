"""Our queue compared with its peers: `python -m benchmarks.peers`.

Every arm empties a queue of no-op jobs, in a process of its own that has drained a few before; all share one embedded
Postgres with its durable settings, or have a Redis of their own. Every arm checks in its own store that each job was
done once. The systems give different guarantees, which are printed below the table. Two systems are so
much slower that they get a shorter queue; that does not change their rates.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence

from benchmarks.harness import Server, arguments, interleave, median, postgres, print_table, say, spread
from benchmarks.peers import arms as systems
from benchmarks.peers.arm import BULK, CLIENTS, Accepted

SYSTEMS = ("raw", "pgqueuer", "procrastinate", "celery", "ours")


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--jobs", type=int, default=20_000, help="in the queue, per arm and round (20000)")
    parser.add_argument("--slow-jobs", type=int, default=1000, help="the same for procrastinate and Celery (1000)")
    parser.add_argument("--submits", type=int, default=2000, help="in bulk; half by many, a tenth by one (2000)")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS, help="systems to compare (all)")
    parser.add_argument("--only", choices=("drain", "enqueue"), help="only one half")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.jobs, options.slow_jobs, options.submits = 1, 2000, 200, 500
    with postgres() as server:
        if options.only != "enqueue":
            report_drains(server, options)
        if options.only != "drain":
            report_submits(server, options)


def report_drains(server: Server, options: argparse.Namespace) -> None:
    """Drain with every arm in turns, and print rates, ratios, and the guarantees of each."""
    arms = systems.drains(server, options.systems, jobs=options.jobs, slow_jobs=options.slow_jobs)
    rates = interleave({arm.name: arm.drain for arm in arms}, options.rounds)
    columns = [arm for arm in arms if arm.column]
    print_table(
        f"Emptying a queue of no-op jobs; medians of {options.rounds} rounds (and their range), ratios within rounds",
        ("", "jobs", "jobs/s", *(f"{arm.column} is" for arm in columns)),
        [
            (
                arm.name,
                f"{arm.jobs}",
                spread(rates[arm.name]),
                *(times(rates[ours.name], rates[arm.name]) for ours in columns),
            )
            for arm in arms
        ],
    )
    say("\nGuarantees of each for a job")
    for name, promise in systems.PROMISES.items():
        say(f"* {name}: {promise}")


def report_submits(server: Server, options: argparse.Namespace) -> None:
    """Submit with every system in turns, and print the rates of all ways."""
    arms: Mapping[str, Callable[[], Accepted]] = systems.submits(server, options.systems, jobs=options.submits)
    say("")
    results = interleave(arms, options.rounds)
    ours = results.get(systems.OUR_WRITER)
    rows = []
    for name, accepted in results.items():
        for way, label in (("one", "one client"), ("many", f"{CLIENTS} clients"), ("bulk", f"{BULK} a call")):
            reached = [getattr(each, way) for each in accepted]
            best = "" if ours is None or accepted is ours else times([getattr(each, way) for each in ours], reached)
            rows.append((f"{name}, {label}", spread(reached), best))
    print_table(
        f"Submitting jobs, from one process; medians of {options.rounds} rounds (and their range)",
        ("", "jobs/s", "ours is"),
        rows,
    )


def times(values: Sequence[float], base: Sequence[float]) -> str:
    """Format the ratio to `base`: the median of the ratios within each round, and their range."""
    ratios = [value / other for value, other in zip(values, base, strict=True)]
    digits = 0 if median(ratios) >= 20 else 1
    return f"{spread(ratios, digits)}x"


if __name__ == "__main__":
    main()
