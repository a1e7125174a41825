"""Overhead of the stack over bare generation: `python -m benchmarks.system.overhead`.

Seconds per image when tasks are submitted at once over HTTP (rows, Dispatcher, Serve replica, object store, settled),
against the same model generating the same seeds in a loop in one process, without and with encoding and storing each
image. Also the share of the time in which the pipeline is busy. The tiny model is fast, so that the overhead shows.
"""

import argparse
import asyncio
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import aiohttp
import psycopg

from benchmarks.harness import Server, arguments, interleave, median, postgres, print_table, ratio, say, spread
from benchmarks.stack import KEY, TASKS, running_stack
from benchmarks.system import bare_drawing

BARE = "pipeline only, one process"
STORED = "pipeline, encode, store, in turn"
STACK = "whole stack, submitted at once"
ALONE = "whole stack, one task at a time"

_PATIENCE_SECONDS = 600.0

_TIMES = """
SELECT extract(epoch FROM min(started_at)), extract(epoch FROM max(completed_at)),
       sum((result->'metadata'->'timings'->>'draw_ms')::float8) / 1000,
       array_agg(result->'artifacts'->0->>'sha256' ORDER BY spec->'seed')
  FROM tasks WHERE origin_reference = %s
"""


@dataclass(frozen=True, slots=True)
class Burst:
    """Some images and their times; `drawing` is the seconds per image that the pipeline reports.

    `busy` is the share of the time in which the pipeline was busy, from 0 to 1.
    """

    seconds_per_image: float
    drawing: float
    busy: float
    digests: tuple[str, ...]


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--images", type=int, default=32, help="per arm and round (32)")
    parser.add_argument("--side", type=int, default=256, help="pixels (256)")
    parser.add_argument("--steps", type=int, default=4, help="denoising steps (4)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the pipeline, everywhere the same (1)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.images = 1, 4
    # Ray gives a replica as many threads as cores; the loop must have the same.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    with postgres() as server:
        run(server, options)


def run(server: Server, options: argparse.Namespace) -> None:
    database_url, home = server.database("overhead"), server.home / "stack"
    pool = {"name": "Flux", "queue": "inference", "num_replicas": 1, "model": {"model": "tiny-flux"}}
    with (
        running_stack(home, database_url, [pool], environment={}) as url,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), bare_drawing.load_model, (home,)) as process,
    ):
        body = bare_drawing.body(options.side, options.steps)
        draw = partial(_draw, process, body, range(options.images))
        arms = {
            BARE: partial(draw, store=False),
            STORED: partial(draw, store=True),
            STACK: partial(_submit, url, database_url, body, range(options.images)),
            ALONE: partial(_submit_in_turn, url, database_url, body, range(max(options.images // 8, 1))),
        }
        say("  warming up")
        for arm in arms.values():
            arm()
        report(interleave(arms, options.rounds), options)


def report(bursts: Mapping[str, Sequence[Burst]], options: argparse.Namespace) -> None:
    seconds = {name: [burst.seconds_per_image for burst in results] for name, results in bursts.items()}
    print_table(
        f"{options.images} images of {options.side}x{options.side}, {options.steps} steps;"
        f" medians of {options.rounds} rounds (and their range)",
        ("", "ms per image", "of pipeline only", "of pipeline, encode, store"),
        [
            (
                name,
                spread([value * 1000 for value in values], 1),
                ratio(values, seconds[BARE]),
                ratio(values, seconds[STORED]),
            )
            for name, values in seconds.items()
        ],
    )
    stack = _typical(bursts[STACK])
    same = {burst.digests for burst in (*bursts[STORED], *bursts[STACK])} == {stack.digests}
    say(
        f"\nThe stack's pipeline is busy {stack.busy:.1%} of the time between the first start and the last completion,"
        f" {stack.drawing * 1000:.1f} ms per image."
    )
    say(f"The stack's images are {'the same, byte for byte, as' if same else 'NOT the same as'} the loop's.")


def _typical(bursts: Sequence[Burst]) -> Burst:
    return Burst(
        median([burst.seconds_per_image for burst in bursts]),
        median([burst.drawing for burst in bursts]),
        median([burst.busy for burst in bursts]),
        bursts[0].digests,
    )


def _draw(process: ProcessPoolExecutor, body: Mapping[str, Any], seeds: range, *, store: bool) -> Burst:
    seconds, digests = process.submit(bare_drawing.generate, body, seeds, store=store).result()
    each = seconds / len(seeds)
    return Burst(each, each, 1.0, tuple(digests))


def _submit_in_turn(url: str, database_url: str, body: Mapping[str, Any], seeds: range) -> Burst:
    return _typical([_submit(url, database_url, body, [seed]) for seed in seeds])


def _submit(url: str, database_url: str, body: Mapping[str, Any], seeds: Sequence[int]) -> Burst:
    """Time from the first POST to the last row that is COMPLETED."""
    reference = str(uuid4())
    began = time.time()
    asyncio.run(_post_all(url + TASKS, {**body, "origin_reference": reference}, seeds))
    with psycopg.connect(database_url, autocommit=True) as connection:
        _wait_for_all(connection, reference, len(seeds))
        row = connection.execute(_TIMES, (reference,)).fetchone()
    assert row is not None
    first_start, last_end, drawing, digests = float(row[0]), float(row[1]), row[2], row[3]
    busy = drawing / (last_end - first_start)
    return Burst((last_end - began) / len(seeds), drawing / len(seeds), busy, tuple(digests))


async def _post_all(url: str, body: Mapping[str, Any], seeds: Sequence[int]) -> None:
    async def post(seed: int) -> None:
        async with session.post(url, json={**body, "seed": seed}) as answer:
            if answer.status != 201:
                raise RuntimeError(f"{url} answered {answer.status}: {await answer.text()}")

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:
        await asyncio.gather(*map(post, seeds))


def _wait_for_all(connection: psycopg.Connection[Any], reference: str, count: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        statuses = dict(
            connection.execute(
                "SELECT status, count(*) FROM tasks WHERE origin_reference = %s GROUP BY status", (reference,)
            ).fetchall()
        )
        if statuses.get("COMPLETED") == count:
            return
        if "FAILED" in statuses or time.monotonic() > deadline:
            raise RuntimeError(f"the tasks did not complete: {statuses}")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
