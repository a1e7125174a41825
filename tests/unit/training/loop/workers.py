"""Data-parallel workers as real processes, which meet over loopback."""

import json
import multiprocessing
import os
import signal
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from compute.training.loop.distributed import PeerLost, ProcessGroup
from compute.training.models.flux import FAMILY
from compute.training.spec import TrainingSpec
from tests.patience import PATIENCE
from tests.unit.training.loop.rig import CPU, Bench, Lines, Recorder, family_of, learned


@dataclass(frozen=True)
class Job:
    """A training for several workers.

    Attributes:
        linear: Whether it is one of `Lines`.
        victim: The worker that is killed.
        at: The step at whose end that happens; 0 is before the first worker has shared its weights.
    """

    bench: Bench
    spec: TrainingSpec
    size: int
    folder: Path
    linear: bool = False
    victim: int | None = None
    at: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a worker ended: its exit code, and what it wrote before."""

    code: int | None
    facts: dict[str, Any] = field(default_factory=dict)


def run(job: Job) -> list[Outcome]:
    """Start all workers of a job and wait for them."""
    # One process imports what they all need, and is forked before it has computed anything.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "compute.training.models.flux.network"])
    processes: list[BaseProcess] = [context.Process(target=_work, args=(job, rank)) for rank in range(job.size)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(PATIENCE)
        return [Outcome(process.exitcode, facts_of(job, rank)) for rank, process in enumerate(processes)]
    finally:
        for process in processes:
            process.kill()
            process.join()


def weights_of(job: Job, rank: int) -> Path:
    """Where a worker leaves the weights that it ended with."""
    return job.folder / f"weights-{rank}.pt"


def facts_of(job: Job, rank: int) -> dict[str, Any]:
    """What a worker wrote before it ended, if it came to that."""
    file = job.folder / f"facts-{rank}.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return found


def _work(job: Job, rank: int) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo",
        init_method=f"file://{job.folder}/rendezvous",
        rank=rank,
        world_size=job.size,
        timeout=timedelta(seconds=PATIENCE),
    )
    # Until all are there, a dead one would be missed by whoever arranges the meeting.
    dist.barrier()
    if (rank, 0) == (job.victim, job.at):
        _die()
    facts = _train(job, rank)
    (job.folder / f"facts-{rank}.json").write_text(json.dumps(facts))
    # All have what they wanted; saying goodbye to a dead one would take time.
    os._exit(0)


def _train(job: Job, rank: int) -> dict[str, Any]:
    def on_save(step: int) -> None:
        if (rank, step) == (job.victim, job.at):
            _die()

    heard = Recorder(on_save=on_save)
    # Every worker's network is another one at first.
    made = Lines(0.05 + rank)
    family = family_of(lambda: made) if job.linear else FAMILY
    try:
        trainer = job.bench.trainer(job.spec, family, ProcessGroup.joined(CPU))
        trainer.run(heard)
    except PeerLost:
        return {"lost": True}
    found = made.module.state_dict() if job.linear else learned(trainer, job.folder / f"export-{rank}")
    torch.save(found, weights_of(job, rank))
    losses = trainer.history.losses
    return {"lost": False, "losses": losses, "heard": len(heard.reports), "saves": heard.saves}


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
