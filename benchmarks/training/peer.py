"""diffusers' DreamBooth LoRA script for FLUX, run unchanged: `python -m benchmarks.training.peer`.

The peer of the training benchmark. `--script` names `examples/dreambooth/train_dreambooth_lora_flux.py` of a checkout
of diffusers elsewhere; it is not part of this project. Prints one line of JSON: steps per second, seconds and
loss of every step, and the peak memory. The interpreter needs torch, torchvision, diffusers, transformers, accelerate,
peft and tensorboard, not this project.

The script is not modified. It runs in a process of its own whose only other work is a thread that records
the peak memory twice a second. Steps and losses come from the TensorBoard file that the script writes after every step,
when it has waited for the device. After the last step it saves the LoRA and then loads the whole model once more for a
final validation; it is ended when the LoRA is saved, unless `--to-the-end` is given. Weights are read from several
files at once, by an environment variable of diffusers that shortens the start only.
"""

import argparse
import itertools
import json
import os
import resource
import runpy
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

__all__ = ["PeerRun", "PeerSettings", "Step", "run_peer", "steps_per_second"]

_WARM_UP = 5
_POLL_SECONDS = 0.5
_WATCH = "--watch"
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "HF_ENABLE_PARALLEL_LOADING": "1"}


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """Arguments of the script. Others keep the script's defaults (AdamW, every layer of attention and of the double
    blocks'
    feed-forward, uniform timesteps), with a constant learning rate and without validation images.

    Attributes:
        images: A folder with images only; all get `prompt`.
        alpha: Alpha of the LoRA; as large as `rank` if None.
        batch_size: Images in a micro-batch, `accumulation` of which make a step.
        guidance: Value for the network's guidance embedding.
        text_tokens: Length that T5 pads prompts to.
        also: More of the script's own arguments.
        python: The interpreter that runs it.
        output: Folder that keeps the LoRA, the TensorBoard files and the log; a temporary one if None.
        to_the_end: Let the script load the whole model again after its last step.
        timeout: Seconds after which it is ended.
    """

    script: Path
    model: Path
    images: Path
    steps: int = 30
    resolution: int = 512
    rank: int = 16
    alpha: int | None = None
    batch_size: int = 1
    accumulation: int = 1
    learning_rate: float = 1e-4
    guidance: float = 1.0
    text_tokens: int = 512
    gradient_checkpointing: bool = False
    cache_latents: bool = True
    mixed_precision: str = "bf16"
    seed: int = 0
    prompt: str = "a photo of sks dog"
    also: tuple[str, ...] = ()
    python: str = sys.executable
    output: Path | None = None
    to_the_end: bool = False
    timeout: float = 900.0

    def arguments(self, output: Path) -> list[str]:
        """The script's own command line."""
        values = {
            "pretrained_model_name_or_path": self.model.resolve(),
            "instance_data_dir": self.images.resolve(),
            "output_dir": output,
            "instance_prompt": self.prompt,
            "mixed_precision": self.mixed_precision,
            "resolution": self.resolution,
            "train_batch_size": self.batch_size,
            "gradient_accumulation_steps": self.accumulation,
            "rank": self.rank,
            "lora_alpha": self.alpha or self.rank,
            "guidance_scale": self.guidance,
            "max_sequence_length": self.text_tokens,
            "optimizer": "adamw",
            "learning_rate": self.learning_rate,
            "lr_scheduler": "constant",
            "lr_warmup_steps": 0,
            "max_train_steps": self.steps,
            "report_to": "tensorboard",
            "seed": self.seed,
        }
        switches = {"--gradient_checkpointing": self.gradient_checkpointing, "--cache_latents": self.cache_latents}
        return [
            *(f"--{name}={value}" for name, value in values.items()),
            *(name for name, on in switches.items() if on),
            *self.also,
        ]


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the optimizer: its end (seconds since the epoch) and its mean loss."""

    ended: float
    loss: float


@dataclass(frozen=True, slots=True)
class PeerRun:
    """The result of one run of the script.

    Attributes:
        device: Name of the GPU, or `cpu`.
        steps_per_second: By the median step, without the first five.
        step_seconds: From the end of one step to the end of the next, so one fewer than there are steps.
        losses: One for every step.
        seconds_to_first_step: From the start of the process to the end of the first step.
        allocated_bytes: Peak of PyTorch's tensors on the GPU, from the start to the end of the process; 0 on a CPU.
        reserved_bytes: Peak of the memory that PyTorch had reserved on the GPU.
        resident_bytes: Peak of main memory, with pages of the weights' files that were mapped.
        arguments: The script's command line.
    """

    device: str
    steps_per_second: float
    step_seconds: list[float]
    losses: list[float]
    seconds_to_first_step: float
    allocated_bytes: int
    reserved_bytes: int
    resident_bytes: int
    arguments: list[str]


def main() -> None:
    if sys.argv[1:2] == [_WATCH]:
        _watch(Path(sys.argv[2]), sys.argv[3:])
        return
    settings = _settings()
    try:
        print(json.dumps(asdict(run_peer(settings))), flush=True)
    except (ValueError, RuntimeError) as error:
        sys.exit(str(error))


def _settings() -> PeerSettings:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("script", "model", "images"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--output", type=Path, help="keep the LoRA, the TensorBoard files and the log in this folder")
    parser.add_argument("--alpha", type=int, help="alpha of the LoRA (as the rank)")
    kinds: dict[str, type[int | float | str]] = {"steps": int, "resolution": int, "rank": int, "batch-size": int}
    kinds |= {"accumulation": int, "text-tokens": int, "seed": int, "prompt": str, "python": str}
    for name, kind in [*kinds.items(), ("learning-rate", float), ("guidance", float), ("timeout", float)]:
        default = _default(name)
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"({default})")
    parser.add_argument("--mixed-precision", choices=("no", "fp16", "bf16"), default=_default("mixed-precision"))
    for name in ("gradient-checkpointing", "cache-latents", "to-the-end"):
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=_default(name))
    parser.add_argument(
        "--also", nargs=argparse.REMAINDER, default=(), help="all further arguments are the script's own"
    )
    options = vars(parser.parse_args())
    if options["steps"] < _WARM_UP + 2:
        parser.error(f"--steps: at least {_WARM_UP + 2}, since the first {_WARM_UP} are not counted")
    return PeerSettings(**options | {"also": tuple(options["also"])})


def _default(option: str) -> Any:
    return next(field.default for field in fields(PeerSettings) if field.name == option.replace("-", "_"))


def run_peer(settings: PeerSettings) -> PeerRun:
    """Run the script and return its result; its log goes to a file.

    Raises:
        ValueError: `settings.output` is not empty.
        RuntimeError: It failed, ended before its last step, or took longer than `settings.timeout`; with the log's end.
    """
    with tempfile.TemporaryDirectory(prefix="peer-") as scratch:
        output = (settings.output or Path(scratch) / "output").resolve()
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()):
            raise ValueError(f"{output} is not empty")
        report, log = Path(scratch) / "report.json", output / "log.txt"
        arguments = settings.arguments(output)
        began = time.time()
        _run(settings, report, log, arguments)
        steps = list(_steps(output))
        if len(steps) != settings.steps:
            raise RuntimeError(f"{len(steps)} of {settings.steps} steps were logged\n{_tail(log)}")
        found = json.loads(report.read_text())
    return PeerRun(
        device=found["device"],
        steps_per_second=steps_per_second([step.ended for step in steps]),
        step_seconds=_differences([step.ended for step in steps]),
        losses=[step.loss for step in steps],
        seconds_to_first_step=steps[0].ended - began,
        allocated_bytes=found["allocated"],
        reserved_bytes=found["reserved"],
        resident_bytes=found["resident"],
        arguments=arguments,
    )


def steps_per_second(ends: list[float]) -> float:
    """Return the steps per second by the median step; the first five are left out.

    `ends`: the end of each step, in seconds, at least seven of them.
    """
    return 1 / statistics.median(_differences(ends)[_WARM_UP:])


def _differences(ends: list[float]) -> list[float]:
    return [end - before for before, end in itertools.pairwise(ends)]


def _run(settings: PeerSettings, report: Path, log: Path, arguments: list[str]) -> None:
    root = Path(__file__).resolve().parents[2]
    ours = [settings.python, "-m", "benchmarks.training.peer", _WATCH, str(report)]
    command = [*ours, str(settings.script.resolve()), *arguments]
    environment = {**os.environ, **_ENVIRONMENT}
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=output, stderr=output)  # noqa: S603
        try:
            ended_by_us = _wait(process, settings, Path(log.parent) / "pytorch_lora_weights.safetensors")
        finally:
            process.kill()
            process.wait()
    if not ended_by_us and process.returncode != 0:
        raise RuntimeError(f"the script failed with status {process.returncode}\n{_tail(log)}")


def _wait(process: "subprocess.Popen[bytes]", settings: PeerSettings, lora: Path) -> bool:
    """Wait until the script ends, or has saved the LoRA and may be ended (True)."""
    deadline, size = time.monotonic() + settings.timeout, 0
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"the script took longer than {settings.timeout:.0f} s\n{_tail(lora.parent / 'log.txt')}"
            )
        before, size = size, lora.stat().st_size if lora.exists() else 0
        if size and size == before and not settings.to_the_end:
            return True
        time.sleep(_POLL_SECONDS)
    return False


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").replace("\r", "\n").splitlines()[-40:])


def _steps(output: Path) -> Iterator[Step]:
    """Yield the steps that the script logged. It logs every micro-batch, with the number of finished steps."""
    found = sorted(event for path in output.rglob("events.out.tfevents.*") for event in _losses(path.read_bytes()))
    losses: list[float] = []
    done = 0
    for ended, number, loss in found:
        losses.append(loss)
        if number > done:
            yield Step(ended, statistics.fmean(losses))
            losses, done = [], number


def _losses(data: bytes) -> Iterator[tuple[float, int, float]]:
    """Yield the time of each logged loss, the step's number and the loss.

    `data` holds records: a length, its checksum, the event and its checksum.
    """
    event_pb2 = _events()
    at = 0
    while at + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
        at += 12 + length + 4
        for value in event.summary.value:
            if value.tag == "loss":
                yield event.wall_time, event.step, value.simple_value


def _events() -> Any:
    try:
        from tensorboard.compat.proto import event_pb2
    except ImportError:
        from tensorboardX.proto import event_pb2
    return event_pb2


def _watch(report: Path, command: list[str]) -> None:
    """Run a script as `python SCRIPT ARGUMENTS` would, and record the peak memory meanwhile."""
    import torch

    def write() -> None:
        gpu = torch.cuda.is_initialized()
        found = {
            "device": torch.cuda.get_device_name() if gpu else "cpu",
            "allocated": torch.cuda.max_memory_allocated() if gpu else 0,
            "reserved": torch.cuda.max_memory_reserved() if gpu else 0,
            "resident": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }
        unfinished = report.with_suffix(".new")
        unfinished.write_text(json.dumps(found))
        unfinished.replace(report)

    def keep_writing() -> None:
        while not over.wait(_POLL_SECONDS):
            write()

    over = threading.Event()
    watcher = threading.Thread(target=keep_writing, daemon=True)
    watcher.start()
    sys.argv = command
    try:
        runpy.run_path(command[0], run_name="__main__")
    finally:
        over.set()
        watcher.join()
        write()


if __name__ == "__main__":
    main()
