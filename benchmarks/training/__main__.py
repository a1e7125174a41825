"""Training against diffusers' DreamBooth LoRA script for FLUX, run unchanged from a checkout of diffusers.

    python -m benchmarks.training --script …/examples/dreambooth/train_dreambooth_lora_flux.py --model DIR --images DIR
    python -m benchmarks.training --url http://127.0.0.1:8000 --key KEY

The first form trains on the same images with the same settings, in turns, each alone in its process, and prints the
steps per second, the peak memory and the losses of both, and their ratios. The second requests a short training from
a running stack and prints the time from POST to the first step, and the durations of its checkpoints.
"""

import argparse
import base64
import io
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from benchmarks.training.peer import PeerSettings, run_peer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", type=Path, help="the peer's script")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs it, with torchvision")
    parser.add_argument("--model", type=Path, help="a FLUX.1 in diffusers' layout; see benchmarks.training.model")
    parser.add_argument("--images", type=Path, help="a folder with images only")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="ours with torch.compile")
    parser.add_argument("--mixed-precision", choices=("bf16", "no"), default="no", help="bf16 on a GPU")
    parser.add_argument("--url", help="a running stack, to measure from POST to the first step")
    parser.add_argument("--key")
    options = parser.parse_args()
    if options.url:
        _first_step(options.url, options.key)
    else:
        _against_peer(options)


def _against_peer(options: argparse.Namespace) -> None:
    theirs, ours = [], []
    for _ in range(options.rounds):
        peer = PeerSettings(
            script=options.script,
            model=options.model,
            images=options.images,
            steps=options.steps,
            resolution=options.resolution,
            rank=options.rank,
            mixed_precision=options.mixed_precision,
            python=options.python,
        )
        theirs.append(run_peer(peer))
        ours.append(_ours(options))
    speed = (statistics.median(run.steps_per_second for run in theirs), _median(ours, "steps_per_second"))
    memory = (
        statistics.median(run.allocated_bytes or run.resident_bytes for run in theirs),
        statistics.median(run["allocated_bytes"] or run["resident_bytes"] for run in ours),
    )
    losses = (_tail(theirs[-1].losses), _tail(ours[-1]["losses"]))
    print(f"{options.resolution} px, rank {options.rank}, batch 1, {options.steps} steps, {options.rounds} rounds")
    print(f"  steps/s      peer {speed[0]:8.3f}   ours {speed[1]:8.3f}   ours/peer {speed[1] / speed[0]:.2f}")
    print(
        f"  peak memory  peer {memory[0] / 1e9:6.2f} GB   ours {memory[1] / 1e9:6.2f} GB   {memory[1] / memory[0]:.2f}"
    )
    print(f"  mean loss of the second half   peer {losses[0]:.4f}   ours {losses[1]:.4f}")
    seconds = [value for run in ours for value in run["checkpoint_seconds"]]
    print(f"  a checkpoint {statistics.median(seconds) * 1e3:.1f} ms, {ours[-1]['checkpoint_bytes'] / 1e6:.1f} MB")


def _ours(options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.training.ours", "--model", str(options.model)]
    command += ["--images", str(options.images), "--steps", str(options.steps), "--rank", str(options.rank)]
    command += ["--resolution", str(options.resolution)]
    command += ["--precision", "bf16" if options.mixed_precision == "bf16" else "fp32"]
    command += ["--compile"] if options.compile else []
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _median(runs: list[dict[str, Any]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def _tail(losses: list[float]) -> float:
    return statistics.mean(losses[len(losses) // 2 :])


def _first_step(url: str, key: str) -> None:
    with httpx.Client(base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        seconds = []
        for round_ in range(3):
            began = time.monotonic()
            sources = [_picture(round_ * 4 + index) for index in range(4)]
            body = {"trigger_word": "bench", "steps": 60, "save_every": 20, "source_images": sources}
            answer = client.post("/training/", json=body | {"base_model_path": "default"})
            answer.raise_for_status()
            path = f"/training/{answer.json()['id']}"
            while client.get(path).json()["current_step"] < 1:
                time.sleep(0.05)
            seconds.append(time.monotonic() - began)
            while (seen := client.get(path).json())["status"] not in ("COMPLETED", "FAILED"):
                time.sleep(0.2)
            saved = [float(found) for found in re.findall(r"checkpoint, ([\d.]+) s", seen["logs"])]
            print(f"  {seen['status']}: first step {seconds[-1]:.1f} s after POST; checkpoints {saved} s")
        print(f"POST to first step: {statistics.median(seconds):.1f} s (median of {len(seconds)})")


def _picture(number: int) -> str:
    """Return an image as a data URL."""
    file = io.BytesIO()
    Image.radial_gradient("L").resize((128, 128)).rotate(number * 10).convert("RGB").save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


if __name__ == "__main__":
    main()
