"""Every optimizer and schedule that can be asked for, or the nearest one, which the log names."""

import logging

import pytest
import torch

from compute.training.loop.optimizers import make_optimizer, make_schedule
from compute.training.spec import OptimizerSpec
from tests.unit.training.loop.rig import CPU, Bench, spec_of

CLASSES = {"adamw": "AdamW", "adamw8bit": "AdamW", "adafactor": "Adafactor", "sgd": "SGD"}


def weights() -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(6, 4)), torch.nn.Parameter(torch.randn(4))]


@pytest.mark.parametrize("name", CLASSES)
def test_each_name_is_an_optimizer_that_goes_downhill(name: str) -> None:
    moving = weights()
    optimizer = make_optimizer(moving, OptimizerSpec(name=name, learning_rate=0.02), CPU)
    assert type(optimizer).__name__ == CLASSES[name]
    before = float(sum(weight.detach().square().sum() for weight in moving))
    for _ in range(40):
        optimizer.zero_grad()
        torch.stack([weight.square().sum() for weight in moving]).sum().backward()
        optimizer.step()
    assert float(sum(weight.detach().square().sum() for weight in moving)) < 0.5 * before


def test_its_numbers_are_those_asked_for() -> None:
    spec = OptimizerSpec(name="adamw", learning_rate=0.3, weight_decay=0.2, betas=(0.5, 0.6))
    group = make_optimizer(weights(), spec, CPU).param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.3, 0.2, (0.5, 0.6))


def test_eight_bits_without_a_gpu_are_replaced_and_the_log_says_so(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "compute.training.loop.optimizers"):
        replaced = bench.train(spec_of(optimizer="adamw8bit")).history.losses
    assert [record.getMessage() for record in caplog.records] == [
        "optimizer adamw8bit needs a CUDA device; using adamw, whose state takes four times the memory"
    ]
    assert replaced == bench.train(spec_of(optimizer="adamw")).history.losses


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1, 1, 1, 1, 1]),
        ("constant", 4, [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]),
        ("linear", 0, [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("linear", 4, [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]),
        ("cosine", 0, [1, 0.9619, 0.8536, 0.6913, 0.5, 0.3087, 0.1464, 0.0381]),
        ("cosine", 4, [0, 0.25, 0.5, 0.75, 1, 0.8536, 0.5, 0.1464]),
    ],
)
def test_the_learning_rate_goes_as_asked(schedule: str, warmup: int, expected: list[float]) -> None:
    spec = OptimizerSpec(name="sgd", learning_rate=0.5, schedule=schedule, warmup_steps=warmup)
    optimizer = make_optimizer(weights(), spec, CPU)
    course = make_schedule(optimizer, spec, 8)
    found = []
    for _ in range(8):
        found.append(course.get_last_lr()[0])
        optimizer.step()
        course.step()
    assert found == pytest.approx([0.5 * share for share in expected], abs=1e-4)


def test_the_training_reports_the_rate_of_each_step(bench: Bench) -> None:
    trainer = bench.train(spec_of(batch_size=1, learning_rate=0.004, moves={"schedule": "linear", "warmup_steps": 2}))
    assert trainer.history.learning_rates == pytest.approx([0, 0.002, 0.004, 0.002])
