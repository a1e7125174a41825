"""Gain of overlapping the stages of a replica: `python -m benchmarks.pipelines.pipelining`.

Jobs back to back through the shipped run, WorkerContext and store, in one process, with a simulated model:
its denoising holds the device for 200 ms without the GIL, its prompts and its decoding take the times of FLUX.1 on a
large GPU, and its images take the real time to encode. Against the same calls one after the other. With as many jobs
in flight as the Dispatcher sends to a replica: the one that denoises and its `reserved_tasks`; a job that ends is
replaced after the time of claiming the next one.
"""

import argparse
import asyncio
import hashlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image

from benchmarks.harness import arguments, interleave, machine, median, print_table, ratio, say, spread
from compute.deployments.context import LocalWorkerContext
from compute.media.codec import CONTENT_TYPES, encode
from compute.schemas.enums import TaskType
from compute.settings import Settings
from compute.storage.local import LocalStore
from compute.tasks.registry import kind_of
from compute.worker.protocol import Done, GenerateRequest, ImageModel, Job, OnStep

IN_TURN = "in turn"

_PREPARE_SECONDS = 0.006
_DECODE_SECONDS = 0.013


@dataclass
class SimulatedModel(ImageModel):
    """A model that takes time without using a core, like a host that waits for its GPU."""

    draw_seconds: float
    side: int
    name: str = "simulated"
    drawn: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        noise = np.random.default_rng(0).normal(0, 6, (self.side, self.side, 3))
        y, x = np.mgrid[0 : self.side, 0 : self.side] * (256 / self.side)
        shades = np.stack([x, y, (x + y) / 2], axis=-1)
        self._picture = Image.fromarray((shades + noise).clip(0, 255).astype(np.uint8))

    def prepare(self, request: GenerateRequest) -> GenerateRequest:
        time.sleep(_PREPARE_SECONDS)
        return request

    def denoise(self, prepared: GenerateRequest, on_step: OnStep) -> GenerateRequest:
        began = time.perf_counter()
        for step in range(prepared.steps):
            # Until an absolute time, so that the cost of waking up is not added at every step.
            time.sleep(max(0.0, began + self.draw_seconds * (step + 1) / prepared.steps - time.perf_counter()))
            on_step(step + 1, prepared.steps)
        self.drawn.append((began, time.perf_counter()))
        return prepared

    def decode(self, latents: GenerateRequest) -> Image.Image:
        time.sleep(_DECODE_SECONDS)
        return self._picture


@dataclass(frozen=True, slots=True)
class Round:
    """The result of a round. `busy` from 0 to 1 and `gap` between two calls in seconds; `stages` in microseconds per
    image."""

    seconds_per_image: float
    busy: float
    gap: float
    stages: Mapping[str, float]
    in_order: bool


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--images", type=int, default=30, help="per arm and round (30)")
    parser.add_argument("--draw-ms", type=float, default=200, help="time for which denoising holds the device (200)")
    parser.add_argument("--side", type=int, default=1024, help="pixels (1024)")
    parser.add_argument("--refill-ms", type=float, default=20, help="from the end of a job until the next is here (20)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.images = 1, 5
    say(machine())
    with tempfile.TemporaryDirectory(prefix="compute-bench-") as home:
        model = SimulatedModel(options.draw_ms / 1000, options.side)
        arms = {IN_TURN: partial(_in_turn, model, Path(home), options)}
        for reserved in (1, 2, 3):
            arms[f"overlapped, reserved_tasks {reserved}"] = partial(_overlapped, model, Path(home), options, reserved)
        report(interleave(arms, options.rounds), options)


def report(rounds: Mapping[str, Sequence[Round]], options: argparse.Namespace) -> None:
    seconds = {name: [one.seconds_per_image for one in results] for name, results in rounds.items()}
    print_table(
        f"{options.images} PNG of {options.side}x{options.side}, denoising {options.draw_ms:.0f} ms;"
        f" medians of {options.rounds} rounds (and their range)",
        ("", "ms per image", "throughput", "device busy", "us between calls"),
        [
            (
                name,
                spread([value * 1000 for value in seconds[name]], 1),
                ratio(seconds[IN_TURN], seconds[name]),
                f"{median([one.busy for one in results]):.1%}",
                spread([one.gap * 1e6 for one in results]),
            )
            for name, results in rounds.items()
        ],
    )
    overlapped = {name: results for name, results in rounds.items() if name != IN_TURN}
    stages = {stage: 0 for results in overlapped.values() for stage in results[0].stages}
    print_table(
        "microseconds per image and stage: `decode`, `encode` and `upload` overlap with the next denoising",
        ("", *overlapped),
        [
            (stage, *(f"{median([one.stages[stage] for one in results]):.0f}" for results in overlapped.values()))
            for stage in stages
        ],
    )
    ordered = all(one.in_order for results in overlapped.values() for one in results)
    say(f"\nJobs ended {'in the order of their denoising' if ordered else 'OUT OF ORDER'}.")


def _in_turn(model: SimulatedModel, home: Path, options: argparse.Namespace) -> Round:
    """One image after the other: generated, encoded, hashed and stored by the same code."""
    store = LocalStore(home / "turn")
    model.drawn.clear()
    began = time.perf_counter()
    for seed in range(options.images):
        image = model.generate(_request(options, seed), lambda done, total: None)
        data, content_type = encode(image, "png"), CONTENT_TYPES["png"]
        hashlib.sha256(data).hexdigest()
        asyncio.run(store.put(f"turn/{seed}.png", data, content_type))
    return _round(model, (time.perf_counter() - began) / options.images, {}, in_order=True)


def _overlapped(model: SimulatedModel, home: Path, options: argparse.Namespace, reserved: int) -> Round:
    return asyncio.run(_run_jobs(model, home, options, 1 + reserved))


async def _run_jobs(model: SimulatedModel, home: Path, options: argparse.Namespace, in_flight: int) -> Round:
    bench = LocalWorkerContext(Settings(home=home), LocalStore(home / "storage"), model, "bench#1")
    model.drawn.clear()
    stages: dict[str, list[float]] = {}
    started: list[int] = []
    ended: list[int] = []
    left = iter(range(options.images))

    async def keep_sending() -> None:
        for seed in left:
            job = Job(uuid4(), TaskType.GENERATION, 1, _spec(options, seed))
            async with aclosing(kind_of(job.task_type).run(job, bench)) as events:
                async for event in events:
                    if isinstance(event, Done):
                        ended.append(seed)
                        for name, value in event.metadata["timings"].items():
                            stages.setdefault(name.removesuffix("_ms"), []).append(value * 1000)
                    elif seed not in started:
                        started.append(seed)
            await asyncio.sleep(options.refill_ms / 1000)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(keep_sending())
    seconds = (time.perf_counter() - began - options.refill_ms / 1000) / options.images
    bench.stages.close()
    return _round(model, seconds, {name: median(values) for name, values in stages.items()}, in_order=started == ended)


def _round(model: SimulatedModel, seconds: float, stages: Mapping[str, float], *, in_order: bool) -> Round:
    draws = model.drawn
    busy = sum(end - begin for begin, end in draws) / (draws[-1][1] - draws[0][0])
    gaps = [after[0] - before[1] for before, after in pairwise(draws)]
    return Round(seconds, busy, median(gaps), stages, in_order)


def _request(options: argparse.Namespace, seed: int) -> GenerateRequest:
    return GenerateRequest("a lighthouse", options.side, options.side, 4, 3.5, seed)


def _spec(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    return {
        "prompt": "a lighthouse",
        "negative_prompt": None,
        "width": options.side,
        "height": options.side,
        "seed": seed,
        "num_outputs": 1,
        "steps": 4,
        "guidance_scale": 3.5,
        "true_cfg_scale": 1.0,
        "reference_image_path": None,
        "reference_image_strength": None,
        "loras": [],
    }


if __name__ == "__main__":
    main()
