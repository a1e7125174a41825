"""Time until a replica has generated its first image: `python -m benchmarks.system.cold_start`.

1. A fresh process up to its first image: `FluxPipeline.from_pretrained().to()`, and our loader; for comparison a
   process that only imports torch, which is the floor of both.
2. On a local Ray: a fresh actor that imports diffusers and loads the model, and a standby that is activated.
3. With `--kill`: the whole stack. The only replica is killed, and a task is submitted at once; the time from the kill
   until it started, without and with a standby.

The tiny model is used, so everything except reading large weights is measured.
"""

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.harness import arguments, interleave, machine, postgres, print_table, ratio, say, spread
from benchmarks.stack import KEY, TASKS, running_stack
from compute.pipelines.config import ModelConfig, resolve_model

PLAIN = "FluxPipeline.from_pretrained().to()"
OURS = "compute.pipelines.load()"
TORCH = "import torch, nothing else"
FRESH = "fresh actor that imports diffusers"
STANDBY = "standby, activated"

_PATIENCE_SECONDS = 300.0
_STEPS = 1
_SIDE = 64

_PLAIN = f"""
import sys, torch
from diffusers import FluxPipeline
pipeline = FluxPipeline.from_pretrained(sys.argv[1] + "/tiny-flux", use_safetensors=True).to("cpu")
pipeline.set_progress_bar_config(disable=True)
pipeline(prompt="a lighthouse", width={_SIDE}, height={_SIDE}, num_inference_steps={_STEPS}).images[0].tobytes()
print("drawn", flush=True)
"""

_OURS = f"""
import sys
from pathlib import Path
from compute.pipelines import ModelConfig, load
from compute.worker.protocol import GenerateRequest
model = load(ModelConfig(device="cpu"), Path(sys.argv[1]))
request = GenerateRequest("a lighthouse", {_SIDE}, {_SIDE}, {_STEPS}, 3.5, seed=1)
model.generate(request, lambda done, total: None).tobytes()
print("drawn", flush=True)
"""

_TORCH = """
import torch
print("drawn", flush=True)
"""


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--kill", action="store_true", help="also kill replicas of a whole stack (minutes)")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    say(machine())
    with tempfile.TemporaryDirectory(prefix="compute-bench-") as folder:
        models = Path(folder)
        resolve_model(ModelConfig(), models)
        report_processes(models, options)
        report_actors(models, options)
    if options.kill:
        report_kills(options)


def report_processes(models: Path, options: argparse.Namespace) -> None:
    arms = {
        name: partial(first_image, code, models) for name, code in ((PLAIN, _PLAIN), (OURS, _OURS), (TORCH, _TORCH))
    }
    say("fresh processes")
    for arm in arms.values():
        arm()  # so that every file is in the page cache, for all arms alike
    report("first image of a fresh process", interleave(arms, options.rounds), base=PLAIN)


def first_image(code: str, models: Path) -> float:
    """Return the seconds from the start of a process to the line that it prints after its first image."""
    began = time.perf_counter()
    command = [sys.executable, "-c", code, str(models)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:  # noqa: S603
        assert process.stdout
        drawn = process.stdout.readline()
        seconds = time.perf_counter() - began
        process.stdout.close()
    assert drawn == "drawn\n", f"the process ended with {process.returncode}"
    return seconds


def report_actors(models: Path, options: argparse.Namespace) -> None:
    import ray

    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    say("actors on a local Ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    try:
        arms = {FRESH: partial(fresh_actor, models), STANDBY: partial(activation, models)}
        for arm in arms.values():
            arm()
        report("first image after a replica is needed", interleave(arms, options.rounds), base=FRESH)
    finally:
        ray.shutdown()


class PlainActor:
    """A replica in the usual form."""

    def __init__(self, models: Path) -> None:
        import torch
        from diffusers import FluxPipeline

        self._pipeline = FluxPipeline.from_pretrained(models / "tiny-flux", use_safetensors=True)
        self._pipeline.to(torch.device("cpu"))

    def draw(self) -> bytes:
        drawn = self._pipeline(prompt="a lighthouse", width=_SIDE, height=_SIDE, num_inference_steps=_STEPS)
        return bytes(drawn.images[0].tobytes())


class StandbyActor:
    """A standby without Serve, with the work of its first job."""

    def __init__(self, models: Path) -> None:
        from compute.pipelines import prepare

        self._activate = prepare(ModelConfig(device="cpu"), models)

    def is_ready(self) -> bool:
        return True

    def draw(self) -> bytes:
        from compute.worker.protocol import GenerateRequest

        request = GenerateRequest("a lighthouse", _SIDE, _SIDE, _STEPS, 3.5, seed=1)
        model = self._activate()
        return model.decode(model.denoise(model.prepare(request), lambda done, total: None)).tobytes()


def fresh_actor(models: Path) -> float:
    import ray

    began = time.perf_counter()
    actor = ray.remote(PlainActor).remote(models)
    ray.get(actor.draw.remote())
    seconds = time.perf_counter() - began
    ray.kill(actor)
    return seconds


def activation(models: Path) -> float:
    import ray

    actor = ray.remote(StandbyActor).remote(models)
    ray.get(actor.is_ready.remote())
    began = time.perf_counter()
    ray.get(actor.draw.remote())
    seconds = time.perf_counter() - began
    ray.kill(actor)
    return seconds


def report_kills(options: argparse.Namespace) -> None:
    results: dict[str, list[float]] = {}
    with postgres() as server:
        # One stack after the other: two at once would share the cores.
        for name, standby in (("no standby", 0), ("one standby", 1)):
            say(f"a stack with {name}")
            home = server.home / f"stack-{standby}"
            pool = {"name": "Flux", "queue": "inference", "standby": standby, "cpus_per_replica": 0}
            with running_stack(home, server.database(f"kill{standby}"), [pool], environment={}) as url:
                expected = 1 + standby
                results[name] = [kill_and_wait(url, home, expected) for _ in range(min(options.rounds, 3))]
    report("task submitted at the kill of the only replica, until it started", results, base="no standby")


def kill_and_wait(url: str, home: Path, expected: int) -> float:
    """Kill the pool's replica and submit a task; return the seconds from the kill to the task's start."""
    wait_until(lambda: len(replicas(home)) == expected and all(settled(process) for process in replicas(home)))
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
        complete(client)
        (victim,) = [process for process in replicas(home) if "FluxStandby" not in title(process)]
        os.kill(victim.pid, signal.SIGKILL)
        killed_at = time.time()
        return complete(client) - killed_at


def complete(client: httpx.Client) -> float:
    """Submit a small task and wait for its end; return its start as a time stamp."""
    from datetime import datetime

    body = {"prompt": "a lighthouse", "width": _SIDE, "height": _SIDE, "steps": _STEPS}
    task = client.post(TASKS, json=body).raise_for_status().json()
    address = f"{TASKS}{task['id']}"
    wait_until(lambda: client.get(address).json()["status"] in ("COMPLETED", "FAILED"))
    task = client.get(address).json()
    assert task["status"] == "COMPLETED", task["errors"]
    return datetime.fromisoformat(task["started_at"]).timestamp()


def replicas(home: Path) -> list[psutil.Process]:
    """The processes of the pool and its standby in the stack of `home`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            mine = process.environ().get("COMPUTE_HOME") == str(home)
            if mine and title(process).startswith("ray::ServeReplica:compute:Flux"):
                found.append(process)
    return found


def title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error, IndexError):
        return str(process.cmdline()[0])
    return ""


def settled(process: psutil.Process) -> bool:
    """Return whether a replica has finished starting: one that imports keeps a core busy."""
    with contextlib.suppress(psutil.Error):
        return process.cpu_percent(interval=1.0) < 10
    return False


def wait_until(check: Callable[[], bool]) -> None:
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while not check():
        if time.monotonic() > give_up:
            raise TimeoutError("the stack did not reach the expected state in time")
        time.sleep(0.05)


def report(what: str, seconds: Mapping[str, Sequence[float]], *, base: str) -> None:
    rows: list[Sequence[Any]] = [
        (name, spread(values, 2), ratio(seconds[base], values), f"{statistics.mean(values):.2f}")
        for name, values in seconds.items()
    ]
    print_table(
        f"{what}; medians of {len(seconds[base])} rounds (and their range)", ("", "s", "faster by", "mean"), rows
    )


if __name__ == "__main__":
    main()
