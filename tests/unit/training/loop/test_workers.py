"""Several workers train one network: they agree, they do what one would do, and none waits for a dead one."""

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from tests.unit.training.loop.rig import Bench, Lines, family_of, spec_of
from tests.unit.training.loop.workers import Job, Outcome, facts_of, run, weights_of

LINEAR = {"training_type": "FULL", "steps": 6, "batch_size": 4, "learning_rate": 0.05}


def ended(job: Job) -> list[dict[str, torch.Tensor]]:
    """The weights of all workers after a job that went well."""
    outcomes = run(job)
    assert [outcome.code for outcome in outcomes] == [0] * job.size
    assert not any(outcome.facts["lost"] for outcome in outcomes)
    assert len({tuple(outcome.facts["losses"]) for outcome in outcomes}) == 1
    return [torch.load(weights_of(job, rank), weights_only=True) for rank in range(job.size)]


def are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (2, {}),
        (3, {"gradient_accumulation": 2, "caption_dropout": 0.4}),
        # The third worker has nothing to do, ever.
        (3, {"batch_size": 2}),
    ],
)
def test_together_they_do_what_one_does(lines: Bench, tmp_path: Path, size: int, options: dict[str, Any]) -> None:
    asked = spec_of(**LINEAR | options)
    alone = Lines()
    losses = lines.train(asked, family=family_of(lambda: alone)).history.losses
    job = Job(lines, asked, size, tmp_path, linear=True)
    shared = ended(job)
    assert facts_of(job, 0)["losses"] == pytest.approx(losses, rel=1e-5)
    for weights in shared:
        torch.testing.assert_close(weights, dict(alone.module.state_dict()))
        assert are_equal(weights, shared[0])


def test_a_lora_is_the_same_everywhere_and_learns_as_fast(bench: Bench, tmp_path: Path) -> None:
    asked = spec_of(batch_size=4, steps=16, save_every=8, learning_rate=3e-3)
    alone = bench.train(asked).history.losses
    job = Job(bench, asked, 2, tmp_path)
    first, second = ended(job)
    assert are_equal(first, second)
    outcomes = [facts_of(job, rank) for rank in range(2)]
    # Each worker draws its own noise, so only the curves are alike.
    losses = outcomes[0]["losses"]
    assert fmean(losses[:5]) == pytest.approx(fmean(alone[:5]), rel=0.15)
    assert fmean(losses[-5:]) == pytest.approx(fmean(alone[-5:]), rel=0.15)
    assert fmean(losses[-5:]) < 0.9 * fmean(losses[:5])
    assert [(facts["heard"], facts["saves"]) for facts in outcomes] == [(16, [8, 16]), (0, [8, 16])]


@pytest.mark.parametrize(("victim", "at"), [(1, 3), (0, 3), (0, 0)])
def test_a_dead_worker_is_missed(lines: Bench, tmp_path: Path, victim: int, at: int) -> None:
    job = Job(
        lines, spec_of(**LINEAR | {"steps": 1000, "save_every": 1}), 2, tmp_path, linear=True, victim=victim, at=at
    )
    outcomes = run(job)
    assert outcomes[victim] == Outcome(-9)
    assert outcomes[1 - victim].code == 0
    assert outcomes[1 - victim].facts["lost"]
