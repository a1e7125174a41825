"""Memory and time of REFINE against the bare operations: `python -m benchmarks.refine_memory`.

Memory: a picture of 2K becomes one of 8K, each arm in a process of its own, by how much that grows at most (VmHWM above
what was resident before). `resize` decodes the picture and resizes it with Pillow; `resize, PNG` also encodes the
result, as every task has to. REFINE is the run that ships, from stored input to stored output, with a tiny model on the
CPU, whose activations count, too: the arm of one tile shows them. With a GPU they would lie there.

Time: the run against the same tiles drawn by the same model one after the other, resized and encoded by Pillow, with
nothing done beside anything and no care for seams. On two cores the tiny model is no measure for a GPU's speed.
"""

import argparse
import asyncio
import ctypes
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image

from benchmarks.harness import arguments, interleave, machine, print_table, ratio, say, spread
from compute.deployments.context import LocalWorkerContext
from compute.imaging.tiles import TiledImage, TileGrid
from compute.media.codec import encode
from compute.settings import Settings
from compute.storage.local import LocalStore
from compute.tasks.types.refine import Refine
from compute.worker.protocol import GenerateRequest, Job, StagedModel

_MIB = 2**20
_BASE = "inputs/base.png"
_STEPS, _DENOISE, _SEED = 2, 0.5, 7


@dataclass(frozen=True, slots=True)
class Sizes:
    """In pixels: what is refined, what comes out, and the largest side of a tile."""

    base: tuple[int, int]
    output: tuple[int, int]
    tile: int

    @property
    def grid(self) -> TileGrid:
        return TileGrid.split(*self.output, tile=self.tile, overlap=self.tile // 8, multiple=16)

    @property
    def spec(self) -> dict[str, Any]:
        return {
            "base_image_path": _BASE,
            "width": self.output[0],
            "height": self.output[1],
            "tile": self.tile,
            "overlap": self.tile // 8,
            "size_multiple": 16,
            "upscale_enabled": True,
            "upscale_steps": _STEPS,
            "upscale_denoise": _DENOISE,
            "upscale_prompt": "sharp",
            "upscale_seed": _SEED,
            "face_detail_enabled": False,
            "face_detail_denoise": 0.0,
        }


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--output", default="7680x4320", help="pixels of the large result (7680x4320)")
    parser.add_argument("--only", choices=["memory", "time"], help="one of the two tables")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    width, height = (int(side) for side in options.output.split("x"))
    large = Sizes((width // 4, height // 4), (width, height), 1024)
    small = Sizes((512, 512), (1024, 1024), 256)
    if options.quick:
        options.rounds, large, small = 1, Sizes((256, 256), (1024, 1024), 256), Sizes((128, 128), (256, 256), 128)
    if options.arm:
        print(_MEMORY_ARMS[options.arm](options.home, large))
        return
    say(machine())
    with tempfile.TemporaryDirectory(prefix="compute-bench-") as folder:
        home = Path(folder)
        if options.only != "time":
            _store_base(home, large)
            _report_memory(home, large, options)
        if options.only != "memory":
            _store_base(home, small)
            _report_time(home, small, options.rounds)


def _store_base(home: Path, sizes: Sizes) -> None:
    """A smooth picture with some grain."""
    width, height = sizes.base
    y, x = np.mgrid[0:height, 0:width]
    grain = np.random.default_rng(0).normal(0, 6, (height, width))
    waves = [128 + 100 * np.sin(x / width * a + y / height * b) + grain for a, b in ((5, 2), (3, 7), (9, 4))]
    file = home / "storage" / _BASE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encode(Image.fromarray(np.stack(waves, -1).clip(0, 255).astype(np.uint8)), "png"))


def _report_memory(home: Path, sizes: Sizes, options: argparse.Namespace) -> None:
    grown: dict[str, float] = {}
    for arm in _MEMORY_ARMS:
        command = [sys.executable, "-m", "benchmarks.refine_memory", "--arm", arm, "--home", str(home)]
        command += ["--output", options.output, *(["--quick"] if options.quick else [])]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        grown[arm] = json.loads(answer.stdout.splitlines()[-1])
        say(f"  {arm}: {grown[arm]:.0f} MiB")
    pixels = sizes.output[0] * sizes.output[1]
    print_table(
        f"Peak memory: {sizes.base[0]}x{sizes.base[1]} -> {sizes.output[0]}x{sizes.output[1]}, {len(sizes.grid)} tiles",
        ("", "MiB", "bytes per pixel", "to resize", "to resize, PNG"),
        [
            (
                arm,
                f"{peak:.0f}",
                f"{peak * _MIB / pixels:.1f}",
                f"{peak / grown['resize']:.2f}x",
                f"{peak / grown['resize, PNG']:.2f}x",
            )
            for arm, peak in grown.items()
        ],
    )


@contextmanager
def _growth() -> Iterator[Callable[[], float]]:
    """MiB by which this process has grown since, at most."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    yield lambda: (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    """A figure of this process in KiB."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1])


def _resize(home: Path, sizes: Sizes, *, png: bool) -> float:
    with _growth() as peak:
        with Image.open(home / "storage" / _BASE) as base:
            resized = base.resize(sizes.output, Image.Resampling.LANCZOS)
        if png:
            encode(resized, "png")
        return peak()


def _refine(home: Path, sizes: Sizes, *, whole: bool) -> float:
    bench = _workbench(home)
    one_tile = sizes.spec | {"width": sizes.grid.across.tile, "height": sizes.grid.down.tile}
    asyncio.run(_run(bench, one_tile))
    with _growth() as peak:
        asyncio.run(_run(bench, sizes.spec if whole else one_tile))
        return peak()


_MEMORY_ARMS: dict[str, Callable[[Path, Sizes], float]] = {
    "resize": partial(_resize, png=False),
    "resize, PNG": partial(_resize, png=True),
    "REFINE, one tile": partial(_refine, whole=False),
    "REFINE": partial(_refine, whole=True),
}


def _report_time(home: Path, sizes: Sizes, rounds: int) -> None:
    bench, model = _workbench(home), _model(home)
    arms: dict[str, Callable[[], float]] = {
        "bare model and Pillow": partial(_bare_seconds, model, home, sizes),
        "REFINE": lambda: _seconds(lambda: asyncio.run(_run(bench, sizes.spec))),
    }
    for warm_up in arms.values():
        warm_up()
    seconds = interleave(arms, rounds)
    bare = seconds["bare model and Pillow"]
    print_table(
        f"{sizes.base[0]}x{sizes.base[1]} -> {sizes.output[0]}x{sizes.output[1]}, {len(sizes.grid)} tiles;"
        f" medians of {rounds} rounds (and their range)",
        ("", "seconds", "to bare"),
        [(name, spread(values, 2), ratio(values, bare)) for name, values in seconds.items()],
    )


def _bare_seconds(model: StagedModel, home: Path, sizes: Sizes) -> float:
    return _seconds(partial(_bare, model, home, sizes))


def _bare(model: StagedModel, home: Path, sizes: Sizes) -> bytes:
    """The same tiles, each drawn and put down over the one before."""
    with Image.open(home / "storage" / _BASE) as base:
        picture = base.convert("RGB").resize(sizes.output, Image.Resampling.LANCZOS)
    tiled, result = TiledImage(picture, sizes.grid), picture.copy()
    for index, tile in enumerate(sizes.grid):
        request = GenerateRequest(
            prompt="sharp",
            width=tile.width,
            height=tile.height,
            steps=_STEPS,
            guidance_scale=3.5,
            seed=_SEED + index,
            image=tiled.cut(index),
            strength=_DENOISE,
        )
        drawn = model.decode(model.denoise(model.prepare(request), lambda done, total: None))
        result.paste(drawn, (tile.left, tile.top))
    return encode(result, "png")


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _model(home: Path) -> StagedModel:
    from compute.pipelines import ModelConfig, load

    return load(ModelConfig(device="cpu"), home / "models")


def _workbench(home: Path) -> LocalWorkerContext:
    settings = Settings(home=home)
    return LocalWorkerContext(settings, LocalStore(settings.storage_root), _model(home), "benchmark")


async def _run(bench: LocalWorkerContext, spec: dict[str, Any]) -> None:
    job = Job(uuid4(), Refine.name, 1, spec)
    async with aclosing(Refine().run(job, bench)) as events:
        async for _ in events:
            pass


if __name__ == "__main__":
    main()
