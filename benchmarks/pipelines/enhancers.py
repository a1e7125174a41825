"""FACE_ENHANCER and DETAIL_ENHANCER against their bare operations: the cost of detection, comparison and storage.

    python -m benchmarks.pipelines.enhancers

A job runs in a WorkerContext (no Ray, no database): it loads its inputs from a local store, finds the face or the
region, denoises, compares, blends, encodes and stores. For comparison the same denoising by plain diffusers on the same
crop, and OpenCV's cascade alone. The tiny model's images are noise, so all attempts are made and the fallback is
computed, too: the maximal cost of a job. With real weights the denoising grows and the rest stays.
"""

import asyncio
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import FluxImg2ImgPipeline
from PIL import Image

from benchmarks.harness import arguments, interleave, machine, print_table, ratio, say, spread
from compute.deployments.context import LocalWorkerContext
from compute.imaging.faces import detect_faces
from compute.media.codec import encode
from compute.pipelines import ModelConfig, load
from compute.settings import Settings
from compute.storage.local import LocalStore
from compute.tasks.registry import TaskKind
from compute.tasks.types.detail_enhancer import DetailEnhancer
from compute.tasks.types.face_enhancer import FaceEnhancer
from compute.worker.protocol import Done, Job
from tests.pictures import full_figure, portrait, product

ATTEMPTS = {"face": (0.2, 0.12, 0.072), "detail": (0.25, 0.15)}
"""Noise of each attempt at strength 0.5."""


class Bench:
    """One worker in this process, and its inputs."""

    def __init__(self, home: Path, side: int, steps: int) -> None:
        self._runner = asyncio.Runner()
        store = LocalStore(home / "storage")
        self.pictures = {
            "face.png": portrait((side, side)),
            "base.png": full_figure((side * 2 // 3, side)),
            "reference.png": product((side, side)),
        }
        for path, image in self.pictures.items():
            self._runner.run(store.put(path, encode(image, "png"), "image/png"))
        self._bench = LocalWorkerContext(Settings(home=home), store, load(ModelConfig(), home / "models"), "bench#1")
        self.side, self.steps = side, steps

    def spec(self, kind: str) -> dict[str, Any]:
        common = {"strength": 0.5, "prompt": "a", "steps": self.steps, "working_size": self.side, "seed": 1}
        common |= {"size_multiple": 16}
        if kind == "face":
            return common | {"input_image_path": "face.png", "preserve_identity": True}
        paths = {"base_image_path": "base.png", "reference_image_path": "reference.png"}
        return common | paths | {"detail_label": "tshirt", "preserve_original": False}

    def run(self, kind: TaskKind[Any], spec: dict[str, Any]) -> dict[str, Any]:
        """Run one job and return its metadata."""
        return self._runner.run(self._run(kind, spec))

    async def _run(self, kind: TaskKind[Any], spec: dict[str, Any]) -> dict[str, Any]:
        job = Job(uuid.uuid4(), kind.name, 1, spec)
        async with aclosing(kind.run(job, self._bench)) as events:
            seen = [event async for event in events]
        assert isinstance(seen[-1], Done)
        return seen[-1].metadata


def bare_draws(
    pipeline: Any, image: Image.Image, size: tuple[int, int], steps: int, noises: tuple[float, ...]
) -> float:
    """Return the seconds that plain diffusers takes for the same denoising."""
    began = time.perf_counter()
    start = image.resize(size)
    for number, noise in enumerate(noises):
        pipeline(
            prompt="a",
            image=start,
            strength=noise,
            width=size[0],
            height=size[1],
            num_inference_steps=steps,
            guidance_scale=3.5,
            max_sequence_length=512,
            generator=torch.Generator().manual_seed(number),
        )
    return time.perf_counter() - began


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def bare_cascade(image: Image.Image) -> None:
    file = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
    gray = cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY)
    cv2.CascadeClassifier(str(file)).detectMultiScale(gray, 1.1, 5, minSize=(30, 30))


def arms(bench: Bench, pipeline: Any) -> Mapping[str, Callable[[], float]]:
    from compute.worker.ops.patch import working_size

    jobs: dict[str, tuple[TaskKind[Any], str]] = {
        "face": (FaceEnhancer(), "faces"),
        "detail": (DetailEnhancer(), "region_box"),
    }
    made: dict[str, Callable[[], float]] = {}
    for name, (kind, key) in jobs.items():
        spec = bench.spec(name)
        metadata = bench.run(kind, spec)
        assert metadata["attempts_used"] == len(ATTEMPTS[name]), metadata
        box = metadata["faces"][0]["box"] if name == "face" else metadata[key]
        crop = bench.pictures["face.png" if name == "face" else "base.png"].crop(box)
        size = working_size(crop.size, side=bench.side, multiple=16)
        made[f"{name}: job"] = partial(timed, partial(bench.run, kind, spec))
        made[f"{name}: draws"] = partial(bare_draws, pipeline, crop, size, bench.steps, ATTEMPTS[name])
    picture = bench.pictures["face.png"]
    return made | {
        "detect_faces": lambda: timed(lambda: detect_faces(picture)),
        "cascade": lambda: timed(lambda: bare_cascade(picture)),
    }


def main() -> None:
    options = arguments(__doc__, rounds=5).parse_args()
    side, steps, rounds = (128, 4, 1) if options.quick else (512, 28, options.rounds)
    say(machine())
    with tempfile.TemporaryDirectory(prefix="compute-bench-") as folder:
        bench = Bench(Path(folder), side, steps)
        pipeline = FluxImg2ImgPipeline.from_pretrained(Path(folder) / "models" / "tiny-flux")
        pipeline.set_progress_bar_config(disable=True)
        seconds = interleave(arms(bench, pipeline), rounds)
    rows = [
        [ours, spread([1e3 * value for value in seconds[ours]]), spread([1e3 * value for value in seconds[bare]]),
         ratio(seconds[ours], seconds[bare])]
        for ours, bare in (("face: job", "face: draws"), ("detail: job", "detail: draws"), ("detect_faces", "cascade"))
    ]  # fmt: skip
    print_table(f"{side} x {side}, {steps} steps, tiny model", ["ms", "ours", "bare", "ratio"], rows)


if __name__ == "__main__":
    main()
