"""Our trainer for the training benchmark, alone in its process: `python -m benchmarks.training.ours --model DIR …`.

It runs a training job's worker on images that are encoded here, and prints one line of JSON with the
fields of `benchmarks.training.peer`. Losses are read from the device twice a second; a step's time is the mean of
the steps in between.
"""

import argparse
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import torch
from PIL import Image

from compute.training.cache import CachedImage, LatentCache, Manifest, write_manifest
from compute.training.loop.distributed import ProcessGroup
from compute.training.loop.history import StepReport
from compute.training.loop.trainer import Trainer
from compute.training.memory import training_dtype
from compute.training.models import get_family
from compute.training.models.base import TrainableFamily
from compute.training.preprocessing.encode import encode_images, encode_prompts
from compute.training.spec import DataSpec, ModelSpec, OptimizerSpec, TrainingSpec

_UNCOUNTED = 5


class _Meter:
    """A `Listener` that records the reports; checkpoints are timed and deleted."""

    def __init__(self) -> None:
        self.reports: list[StepReport] = []
        self.first_step_at: float | None = None
        self.checkpoint_seconds: list[float] = []
        self.checkpoint_bytes = 0

    def stepped(self, reports: Sequence[StepReport]) -> None:
        self.first_step_at = self.first_step_at or time.perf_counter()
        self.reports += reports

    def sampled(self, step: int, index: int, picture: Image.Image) -> None:
        raise NotImplementedError("the benchmark has no samples")

    def save(self, step: int, write: Callable[[Path], None] | None) -> None:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            if write is not None:
                write(Path(folder))
            self.checkpoint_bytes = sum(file.stat().st_size for file in Path(folder).iterdir())
        self.checkpoint_seconds.append(time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--prompt", default="a photo of sks dog")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--base-precision", choices=("full", "fp8"), default="full")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    options = parser.parse_args()
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    spec = _spec(options)
    family = get_family("flux")
    with tempfile.TemporaryDirectory() as scratch:
        _encode(family, spec, options, Path(scratch), device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        cache = LatentCache(Path(scratch), device)
        trainer = Trainer(spec, family, options.model, cache, ProcessGroup(0, 1, device))
        meter = _Meter()
        trainer.run(meter)
    counted = [report.seconds for report in meter.reports if report.step > _UNCOUNTED]
    if device.type == "cuda":
        # The reports of one window share a mean, and the first includes compilation: the last are the steady state.
        counted = counted[len(counted) // 2 :]
    print(
        json.dumps(
            {
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
                "compile": options.compile,
                "base_precision": options.base_precision,
                "steps_per_second": 1.0 / statistics.median(counted),
                "losses": [round(report.loss, 5) for report in meter.reports],
                "seconds_to_first_step": (meter.first_step_at or began) - began,
                "allocated_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
                "reserved_bytes": torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0,
                "resident_bytes": psutil.Process().memory_info().rss,
                "checkpoint_seconds": meter.checkpoint_seconds,
                "checkpoint_bytes": meter.checkpoint_bytes,
            }
        ),
        flush=True,
    )


def _spec(options: argparse.Namespace) -> TrainingSpec:
    return TrainingSpec(
        id=uuid.UUID(int=0),
        output_name="benchmark",
        trigger_word="sks",
        model=ModelSpec(name="benchmark", source=str(options.model), resolution=options.resolution),
        data=DataSpec(),
        optimizer=OptimizerSpec(name="adamw", learning_rate=1e-4, weight_decay=1e-4),
        rank=options.rank,
        steps=options.steps,
        batch_size=options.batch_size,
        gradient_accumulation=options.accumulation,
        save_every=options.steps,
        timesteps="uniform",
        guidance=(1.0, 1.0),
        precision=options.precision,
        gradient_checkpointing=options.gradient_checkpointing,
        compile=options.compile,
        base_precision=options.base_precision,
    )


def _encode(
    family: TrainableFamily, spec: TrainingSpec, options: argparse.Namespace, folder: Path, device: torch.device
) -> None:
    encoders = family.load_encoders(options.model, device=device, dtype=training_dtype(spec, device))
    side = options.resolution
    files = sorted(options.images.iterdir())
    pictures = [
        (number, Image.open(file).convert("RGB").resize((side, side)), None) for number, file in enumerate(files)
    ]
    encode_images(encoders, pictures, folder, 0)
    encode_prompts(encoders, [(0, options.prompt), (1, "")], folder, 0)
    cached = tuple(CachedImage(file.name, side, side, 0) for file in files)
    write_manifest(folder, Manifest(cached, (options.prompt, "")))


if __name__ == "__main__":
    main()
