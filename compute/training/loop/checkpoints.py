"""Checkpoints: folders from which a training resumes exactly.

weights.safetensors   the trained weights, float32
average.safetensors   their moving average, if there is one
state.pt              step, optimizer, schedule, random number generators, measurements; read as data, never as code
"""

import errno
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from compute.training.loop.history import History
from compute.training.loop.trainable import Trained

__all__ = ["TrainingProgress", "load_checkpoint", "save_checkpoint"]

_WEIGHTS, _AVERAGE, _STATE = "weights.safetensors", "average.safetensors", "state.pt"


@dataclass(slots=True)
class TrainingProgress:
    """The progress of a training. The position in the data follows from the step."""

    step: int
    optimizer: torch.optim.Optimizer
    schedule: Any
    history: History


def save_checkpoint(folder: Path, trained: Trained, progress: TrainingProgress) -> None:
    """Write a checkpoint into an existing folder.

    Raises:
        OSError: the disk is full, or fails.
    """
    save_file(_by_name(trained, [weight.data for weight in trained.masters]), folder / _WEIGHTS)
    if trained.ema is not None:
        save_file(_by_name(trained, trained.ema.shadow_params), folder / _AVERAGE)
    state = {
        "step": progress.step,
        "optimizer": progress.optimizer.state_dict(),
        "schedule": progress.schedule.state_dict(),
        "history": progress.history.state(),
        "ema_step": 0 if trained.ema is None else trained.ema.optimization_step,
        "random": {"torch": torch.get_rng_state(), "cuda": _cuda_states()},
    }
    torch.save(state, folder / _STATE)


def load_checkpoint(folder: Path, trained: Trained, progress: TrainingProgress) -> None:
    """Restore weights, optimizer, schedule, generators and measurements from a checkpoint.

    Raises:
        OSError: a file is missing or damaged.
        ValueError: it belongs to another training.
    """
    _restore(trained, [weight.data for weight in trained.masters], folder / _WEIGHTS)
    state = _read_state(folder / _STATE)
    trained.publish()
    if trained.ema is not None:
        _restore(trained, trained.ema.shadow_params, folder / _AVERAGE)
        trained.ema.optimization_step = state["ema_step"]
    progress.step = state["step"]
    progress.optimizer.load_state_dict(state["optimizer"])
    progress.schedule.load_state_dict(state["schedule"])
    progress.history.restore(state["history"])
    torch.set_rng_state(state["random"]["torch"])
    if torch.cuda.is_available() and state["random"]["cuda"]:
        # This machine may have fewer devices than the one that wrote the checkpoint.
        torch.cuda.set_rng_state_all(state["random"]["cuda"][: torch.cuda.device_count()])


def _by_name(trained: Trained, values: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.contiguous() for name, value in zip(trained.names, values, strict=True)}


def _restore(trained: Trained, values: list[torch.Tensor], file: Path) -> None:
    try:
        found = load_file(file)
    except SafetensorError as error:
        raise OSError(errno.EIO, f"{file.name} is damaged ({error})") from error
    expected = {name: value.shape for name, value in zip(trained.names, values, strict=True)}
    if {name: value.shape for name, value in found.items()} != expected:
        raise ValueError(f"{file} is a checkpoint of another network")
    for name, value in zip(trained.names, values, strict=True):
        value.copy_(found[name])


def _read_state(file: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise OSError(errno.EIO, f"{file.name} is damaged, or contains more than data") from error
    return state


def _cuda_states() -> list[torch.Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
