"""Simulated worlds, in any number: `python -m benchmarks.simulate --seeds 10000`.

Each seed is a world of clients, dispatchers, workers and webhook receivers with its own failures (`tests.proof`). A
seed that breaks an invariant is printed with the violation; `--seed N --trace` runs that world again and prints its
events.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.proof.simulation import simulate

_AT_ONCE = 50


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="number of worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="run this world alone")
    parser.add_argument("--trace", action="store_true", help="print its events")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def _broken(seeds: Iterable[int]) -> list[tuple[int, list[str]]]:
    outcomes = [(seed, simulate(seed).faults) for seed in seeds]
    return [(seed, faults) for seed, faults in outcomes if faults]


def _all_broken(first: int, count: int, processes: int) -> Iterator[tuple[int, list[str]]]:
    parts = [range(start, min(start + _AT_ONCE, first + count)) for start in range(first, first + count, _AT_ONCE)]
    with ProcessPoolExecutor(processes) as pool:
        for found in pool.map(_broken, parts):
            yield from found


def _one(seed: int, *, trace: bool) -> int:
    outcome = simulate(seed)
    if trace:
        print("\n".join(outcome.trace))
    print("\n".join(outcome.faults) or f"seed {seed}: every promise was kept")
    return len(outcome.faults)


def main() -> int:
    given = _arguments()
    if given.seed is not None:
        return int(_one(given.seed, trace=given.trace) > 0)
    begun, broken = time.monotonic(), 0
    for seed, faults in _all_broken(given.first, given.seeds, given.processes):
        broken += 1
        print(f"seed {seed}: {faults[0]}" + (f" (and {len(faults) - 1} more)" if faults[1:] else ""), flush=True)
    seconds = time.monotonic() - begun
    print(f"{given.seeds} worlds in {seconds:.0f} s, {broken} of them broke a promise")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
