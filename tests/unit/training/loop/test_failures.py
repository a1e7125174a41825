"""A training that cannot go on says where it stopped and what to change, and keeps nothing that is spoiled."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from compute.errors import OutOfMemory, TaskFailed
from compute.schemas.enums import ErrorCategory
from compute.training.loop.batches import BatchPlan
from compute.training.models.base import Denoiser
from tests.unit.training.loop.rig import Bench, Lines, Recorder, Root, Watched, family_of, fill_lines, spec_of

FULL = {"training_type": "FULL", "steps": 20, "save_every": 1, "batch_size": 1, "seed": 3}


def test_a_spoiled_picture_is_named_by_its_step(tmp_path: Path) -> None:
    values = [0.5, -1.0, math.nan, 0.25, 1.5]
    plan = BatchPlan([len(values)], 1, FULL["seed"])
    step = next(number for number in range(len(values)) if plan[number].images == (2,)) + 1
    assert step > 1
    heard = Recorder()
    with pytest.raises(TaskFailed, match=rf"loss became nan at step {step}; the learning rate \(0\.01\)") as failed:
        Bench(tmp_path, fill_lines(tmp_path, values)).train(spec_of(**FULL), heard, family_of(Lines))
    assert failed.value.category == ErrorCategory.INVALID_INPUT
    assert heard.saves == list(range(1, step))


def test_a_learning_rate_that_blows_up_is_named(lines: Bench) -> None:
    asked = spec_of(**FULL | {"steps": 500}, optimizer="sgd", learning_rate=1.0, moves={"max_grad_norm": 1e30})
    heard = Recorder()
    # Each picture has a weight of its own; all of them together shrink or grow by a factor at every step.
    with pytest.raises(TaskFailed, match=r"became (nan|inf) at step \d+; the learning rate \(1\)") as failed:
        lines.train(asked.model_copy(update={"batch_size": 7}), heard, family_of(Steep))
    step = int(failed.value.detail.split("step ")[1].split(";")[0])
    assert heard.saves == list(range(1, step))


class Steep(Lines):
    """The same with errors a hundred times larger."""

    def loss(self, latents: torch.Tensor, batch: dict[str, torch.Tensor], random: torch.Generator) -> torch.Tensor:
        return 100.0 * super().loss(latents, batch, random)


def test_a_gradient_that_is_no_number_spoils_no_checkpoint(tmp_path: Path) -> None:
    heard = Recorder()
    bench = Bench(tmp_path, fill_lines(tmp_path, [0.5, 0.5]))
    with pytest.raises(TaskFailed, match="The gradient became nan at step 1;"):
        bench.train(spec_of(**FULL), heard, family_of(lambda: Root(0.5)))
    assert heard.saves == []


def test_no_samples_are_drawn_of_a_spoiled_network(tmp_path: Path) -> None:
    heard = Recorder()
    bench = Bench(tmp_path, fill_lines(tmp_path, [math.nan]))
    samples = {"prompts": ("0",), "every": 1}
    with pytest.raises(TaskFailed, match="step 1;"):
        bench.train(spec_of(**FULL, samples=samples), heard, family_of(Lines))
    assert (heard.samples, heard.reports) == ({}, [])


class _Exhausted(torch.nn.Module):
    """A layer that needs more memory than there is, from a certain call on."""

    def __init__(self, layer: torch.nn.Module, after: int) -> None:
        super().__init__()
        self.layer = layer
        self.left = after

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        if self.left < 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        result: torch.Tensor = self.layer(given)
        return result


@pytest.mark.parametrize(
    ("options", "ways"),
    [
        (
            {"batch_size": 4},
            (
                "lower batch_size (4) and raise gradient_accumulation instead; or set gradient_checkpointing; or "
                "set base_precision to fp8; or lower the resolution (64)"
            ),
        ),
        (
            {"batch_size": 1, "gradient_checkpointing": True, "base_precision": "fp8"},
            "lower the resolution (64)",
        ),
        (
            {"batch_size": 1, "training_type": "FULL", "gradient_checkpointing": True},
            "train a LoRA; or lower the resolution (64)",
        ),
    ],
)
def test_out_of_memory_says_what_to_change(bench: Bench, options: dict[str, Any], ways: str) -> None:
    def shrink(denoiser: Denoiser) -> None:
        denoiser.module.proj_out = _Exhausted(denoiser.module.proj_out, after=2)

    heard = Recorder()
    with pytest.raises(OutOfMemory) as failed:
        bench.train(spec_of(save_every=1, **options), heard, Watched(change=shrink).family)
    assert failed.value.detail == f"CUDA out of memory while training; {ways}."
    assert failed.value.category == ErrorCategory.OUT_OF_MEMORY
    assert heard.saves == [1, 2]


def test_a_network_that_does_not_fit_is_out_of_memory_as_well(bench: Bench) -> None:
    def refuse(_denoiser: Denoiser) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 24.00 GiB.")

    with pytest.raises(OutOfMemory, match="lower the resolution"):
        bench.trainer(spec_of(), Watched(change=refuse).family)


@pytest.mark.parametrize("part", ["transformer", "scheduler"])
def test_a_model_without_its_files_is_missing(bench: Bench, tmp_path: Path, part: str) -> None:
    for other in {"transformer", "scheduler"} - {part}:
        (tmp_path / other).symlink_to(bench.model / other)
    with pytest.raises(OSError, match=part):
        Bench(tmp_path, bench.folder).trainer(spec_of())
