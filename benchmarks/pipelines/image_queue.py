"""Overhead of a worker of the image queue over the bare work: `python -m benchmarks.pipelines.image_queue`.

IMAGE_ADJUSTER jobs through the shipped run, WorkerContext and store, in one process with as many slots as there
are cores; against one process that calls Pillow for the same images, file to file, one after the other. Then a single
job alone against the same calls. Without the Dispatcher, which is measured in `benchmarks.system.overhead`.

Two kinds of work: `shape` crops and scales, which Pillow does without the interpreter's lock; `colours` also changes
brightness, warmth and saturation, in NumPy.
"""

import argparse
import asyncio
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image

from benchmarks.harness import arguments, interleave, machine, median, print_table, ratio, say, spread
from compute.deployments.context import LocalWorkerContext
from compute.imaging.adjustment.sliders import Adjustments, adjust
from compute.imaging.framing.geometry import Framing, plan
from compute.media.codec import encode
from compute.schemas.enums import TaskType
from compute.settings import Settings
from compute.storage.local import LocalStore
from compute.tasks.registry import kind_of
from compute.worker.protocol import Artifact, Job

_COLOURS = {"brightness": 0.2, "contrast": 0.0, "saturation": 0.2, "warmth": 0.1}
_PICTURES = 4
BARE = "Pillow, one process"


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds per image: elapsed, and of processor time, which other load on the machine does not affect."""

    seconds: float
    processor: float


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--jobs", type=int, default=24, help="per arm and round (24)")
    parser.add_argument("--side", type=int, default=1024, help="side of the images, in pixels (1024)")
    parser.add_argument("--slots", type=int, default=os.cpu_count() or 1, help="jobs that compute at a time (cores)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.jobs, options.side = 1, 4, 256
    say(machine())
    with tempfile.TemporaryDirectory(prefix="compute-bench-") as home:
        store = LocalStore(Path(home) / "storage")
        asyncio.run(_store_pictures(store, options.side))
        for name, colours in (("shape", dict.fromkeys(_COLOURS, 0.0)), ("colours", _COLOURS)):
            _compare(name, _spec(options.side, colours), Path(home), options)


def _compare(name: str, spec: dict[str, Any], home: Path, options: argparse.Namespace) -> None:
    slots = options.slots
    arms: dict[str, Callable[[], Cost]] = {
        BARE: partial(_bare, spec, home, options.jobs),
        "one slot": partial(_jobs, spec, home, options.jobs, 1, 2),
        f"{slots} slots": partial(_jobs, spec, home, options.jobs, slots, 2 * slots),
        "one job at a time": partial(_jobs, spec, home, options.jobs, slots, 1),
    }
    for arm in arms.values():
        arm()  # Imports and caches of the first use are not measured.
    rounds = interleave(arms, options.rounds)
    bare = [cost.seconds for cost in rounds[BARE]]
    print_table(
        f"{name}: {options.jobs} images of {options.side} x {options.side}; medians of {options.rounds} rounds",
        ("", "ms per image", "throughput", "ms more than bare", "ms of processor", "against bare"),
        [
            (
                arm,
                spread([cost.seconds * 1000 for cost in costs], 1),
                ratio(bare, [cost.seconds for cost in costs]),
                f"{median([(cost.seconds - one) * 1000 for cost, one in zip(costs, bare, strict=True)]):.1f}",
                spread([cost.processor * 1000 for cost in costs], 1),
                ratio([cost.processor for cost in costs], [cost.processor for cost in rounds[BARE]]),
            )
            for arm, costs in rounds.items()
        ],
    )
    say("`one job at a time` is the latency of a single job.")


async def _store_pictures(store: LocalStore, side: int) -> None:
    """Store gradients with grain like that of photographs: flat colours would make PNG look cheap."""
    y, x = np.mgrid[0:side, 0:side] * (256 / side)
    for number in range(_PICTURES):
        noise = np.random.default_rng(number).normal(0, 6, (side, side, 3))
        pixels = (np.stack([x, y, (x + y) / 2], axis=-1) + noise).clip(0, 255).astype(np.uint8)
        await store.put(_input(number), encode(Image.fromarray(pixels), "png"), "image/png")


def _bare(spec: dict[str, Any], home: Path, count: int) -> Cost:
    """Process file to file: read, open, crop and scale, colours, PNG, hash, write."""
    root = home / "storage"
    result = home / "bare.png"
    framing = Framing(mode="crop", size=(spec["target_width"], spec["target_height"]))
    wanted = Adjustments(**{slider: spec[slider] for slider in _COLOURS})
    began, used = time.perf_counter(), time.process_time()
    for number in range(count):
        with Image.open(root / _input(number)) as opened:
            opened.load()
            planned = plan(opened.size, framing)
            scaled = opened.resize(planned.size, Image.Resampling.LANCZOS, box=planned.source)
        data = encode(adjust(scaled, wanted), "png")
        hashlib.sha256(data).hexdigest()
        result.write_bytes(data)
    return Cost((time.perf_counter() - began) / count, (time.process_time() - used) / count)


def _jobs(spec: dict[str, Any], home: Path, count: int, slots: int, in_flight: int) -> Cost:
    """Run jobs with `in_flight` at a time."""
    store = LocalStore(home / "storage")
    bench = LocalWorkerContext(Settings(home=home), store, None, "bench#1", slots=slots)
    return asyncio.run(_send(spec, bench, count, in_flight))


async def _send(spec: dict[str, Any], bench: LocalWorkerContext, count: int, in_flight: int) -> Cost:
    left = iter(range(count))
    published = 0

    async def keep_sending() -> None:
        nonlocal published
        for number in left:
            job = Job(uuid4(), TaskType.IMAGE_ADJUSTER, 1, spec | {"input_image_path": _input(number)})
            async with aclosing(kind_of(job.task_type).run(job, bench)) as events:
                async for event in events:
                    published += isinstance(event, Artifact)

    began, used = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(keep_sending())
    cost = Cost((time.perf_counter() - began) / count, (time.process_time() - used) / count)
    assert published == count, f"{published} of {count} images were published"
    return cost


def _input(number: int) -> str:
    return f"inputs/{number % _PICTURES}.png"


def _spec(side: int, colours: dict[str, float]) -> dict[str, Any]:
    """The result of `prepare` for a crop to 4:5 at three quarters of the size."""
    return {
        "reference_image_path": None,
        "mode": "crop",
        "aspect_ratio": None,
        "target_width": side * 3 // 5,
        "target_height": side * 3 // 4,
        "margin_left": None,
        "margin_top": None,
        "margin_right": None,
        "margin_bottom": None,
        "cropping_position": None,
        "resampling": "lanczos",
        "tolerance": 0.0,
        "scaling_proportions": None,
        "prompt": None,
        "max_pixels": 64_000_000,
    } | colours


if __name__ == "__main__":
    main()
