"""A training learns, and moves what it was asked to move and nothing else."""

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from compute.training.loop.trainer import Trainer
from compute.training.models.base import Tensors
from tests.unit.training.loop.rig import (
    ALONE,
    Bench,
    Lines,
    Recorder,
    Watched,
    family_of,
    fill_lines,
    learned,
    spec_of,
)


@pytest.mark.parametrize(("kind", "share"), [("LORA", 0.85), ("FULL", 0.6)])
def test_the_loss_falls(bench: Bench, kind: str, share: float) -> None:
    losses = bench.train(spec_of(training_type=kind, steps=40, learning_rate=3e-3)).history.losses
    assert len(losses) == 40
    assert fmean(losses[-10:]) < share * fmean(losses[:10])


def test_a_lora_leaves_the_base_as_it_was(bench: Bench, tmp_path: Path) -> None:
    watched = Watched()
    trainer = bench.trainer(spec_of(), watched.family)
    before = {name: weight.clone() for name, weight in watched.module.state_dict().items()}
    trainer.run(Recorder())
    after = watched.module.state_dict()
    moved = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    adapters = {name for name in before if ".lora_" in name}
    assert moved == adapters
    assert {name.replace(".default", "") for name in adapters} == learned(trainer, tmp_path).keys()


def test_full_training_moves_every_layer(bench: Bench) -> None:
    watched = Watched()
    trainer = bench.trainer(spec_of(training_type="FULL", steps=1), watched.family)
    before = {name: weight.clone() for name, weight in watched.module.named_parameters()}
    trainer.run(Recorder())
    assert [n for n, weight in watched.module.named_parameters() if torch.equal(weight, before[n])] == []


def test_alpha_says_how_much_a_lora_counts(bench: Bench, tmp_path: Path) -> None:
    """The second halves start as zeros, so that one plain step makes them the gradient, which alpha / rank scales."""
    asked = spec_of(optimizer="sgd", steps=1, moves={"weight_decay": 0, "max_grad_norm": 1e9})
    by_default, once, twice = (
        learned(bench.train(asked.model_copy(update={"alpha": alpha})), tmp_path / str(alpha)) for alpha in (None, 4, 8)
    )
    for name in (name for name in once if ".lora_B." in name):
        assert torch.equal(by_default[name], once[name])
        torch.testing.assert_close(twice[name], 2 * once[name], rtol=1e-3, atol=1e-6)


def test_every_step_is_reported_once_and_in_order(bench: Bench) -> None:
    heard = Recorder()
    trainer = bench.train(spec_of(steps=9, batch_size=3, gradient_accumulation=2), heard)
    assert [report.step for report in heard.reports] == list(range(1, 10))
    # 5 and 3 pictures make 3 batches of 3, so that an epoch is one and a half steps long.
    assert [report.epoch for report in heard.reports] == [1, 1, 2, 3, 3, 4, 5, 5, 6]
    assert [report.loss for report in heard.reports] == trainer.history.losses
    assert all(report.grad_norm > 0 and report.seconds > 0 and report.memory_bytes > 2**20 for report in heard.reports)
    first = heard.reports[0]
    assert first.images_per_second == pytest.approx(6 / first.seconds)


@pytest.mark.parametrize(
    ("asked", "steps"),
    [({"epochs": 1}, 5), ({"epochs": 3, "batch_size": 4}, 9), ({"epochs": 3, "gradient_accumulation": 2}, 8)],
)
def test_epochs_are_counted_in_steps(bench: Bench, asked: dict[str, int], steps: int) -> None:
    assert bench.trainer(spec_of(**asked)).total_steps == steps


def test_it_is_saved_every_so_often_and_at_the_end(bench: Bench) -> None:
    heard = Recorder()
    bench.train(spec_of(steps=7, save_every=3, batch_size=1), heard)
    assert heard.saves == [3, 6, 7]


def test_the_same_seed_gives_the_same_training_and_another_one_another(bench: Bench, tmp_path: Path) -> None:
    one, two, other = (bench.train(spec_of(seed=seed)) for seed in (1, 1, 2))
    assert one.history.losses == two.history.losses != other.history.losses
    first, second = learned(one, tmp_path / "1"), learned(two, tmp_path / "2")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("precision", "within"), [("fp32", 1e-6), ("bf16", 1e-3)])
def test_several_micro_batches_count_as_one_batch(lines: Bench, precision: str, within: float) -> None:
    """Seven pictures in batches of seven or one by one are the same step."""
    asked: dict[str, Any] = {"training_type": "FULL", "precision": precision, "learning_rate": 0.1}
    whole, parts = (
        lines.train(spec_of(**asked, batch_size=batch, gradient_accumulation=7 // batch), family=family_of(Lines))
        for batch in (7, 1)
    )
    assert parts.history.losses == pytest.approx(whole.history.losses, rel=within)


class _Watching(Lines):
    def __init__(self) -> None:
        super().__init__()
        self.shown: list[torch.Tensor] = []

    def loss(self, latents: torch.Tensor, batch: Tensors, random: torch.Generator) -> torch.Tensor:
        self.shown.append(latents)
        return super().loss(latents, batch, random)


def test_latents_are_drawn_anew_from_what_the_encoder_said(tmp_path: Path) -> None:
    made = _Watching()
    bench = Bench(tmp_path, fill_lines(tmp_path, [3.0] * 7, spread=2.0))
    bench.train(spec_of(training_type="FULL", batch_size=7, steps=20), family=family_of(lambda: made))
    shown = torch.stack(made.shown)
    assert len(shown.unique()) == shown.numel() == 20 * 7 * 4
    assert float(shown.mean()) == pytest.approx(3.0, abs=0.4)
    assert float(shown.std()) == pytest.approx(2.0, abs=0.3)


def test_a_long_gradient_is_cut(lines: Bench) -> None:
    def first_step(limit: float) -> float:
        made = Lines()
        asked = spec_of(
            training_type="FULL", optimizer="sgd", steps=1, moves={"max_grad_norm": limit, "weight_decay": 0}
        )
        before = made.module[0].weight.detach().clone()
        lines.train(asked, family=family_of(lambda: made))
        return float((made.module[0].weight.detach() - before).norm())

    assert first_step(1e-3) == pytest.approx(1e-3 * 1e-2, rel=1e-2)
    assert first_step(1e3) > 1e-3


@pytest.mark.parametrize("kind", ["LORA", "FULL"])
def test_bfloat16_learns_nearly_the_same(bench: Bench, kind: str) -> None:
    asked: dict[str, Any] = {"training_type": kind, "learning_rate": 1e-3, "steps": 6}
    exact, rounded = (bench.train(spec_of(precision=one, **asked)).history.losses for one in ("fp32", "bf16"))
    assert rounded == pytest.approx(exact, rel=0.05)
    assert rounded != exact


def test_steps_too_small_for_bfloat16_add_up(bench: Bench, tmp_path: Path) -> None:
    """The weights are about 1/4 large, where bfloat16 cannot tell steps of a millionth apart."""
    watched, checkpoints = Watched(), Recorder(tmp_path)
    asked = spec_of(precision="bf16", learning_rate=1e-6, steps=8, save_every=4, moves={"weight_decay": 0})
    trainer = bench.trainer(asked, watched.family)
    drawn = {n: w.clone() for n, w in watched.module.state_dict().items() if "lora_A" in n}
    trainer.run(checkpoints)
    kept = watched.module.state_dict()
    assert {weight.dtype for name, weight in kept.items() if "lora_A" in name} == {torch.bfloat16}
    exact = learned(trainer, tmp_path / "export")
    assert {weight.dtype for weight in exact.values()} == {torch.float32}
    moved = [exact[name.replace(".default", "")] - weight.float() for name, weight in drawn.items()]
    assert all((change != 0).any() for change in moved)


def test_computing_activations_again_changes_nothing(bench: Bench) -> None:
    kept, again = (bench.train(spec_of(gradient_checkpointing=choice)).history.losses for choice in (False, True))
    assert again == pytest.approx(kept, rel=1e-5)


# PyTorch's own, from inside its compiler.
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_blocks_made_for_the_compiler_are_the_same_network(bench: Bench, tmp_path: Path) -> None:
    """What the compiler itself makes of them takes minutes on a CPU, so it is told to leave them alone here."""
    plain = Recorder(tmp_path)
    expected = bench.train(spec_of(save_every=2), plain).history.losses
    torch.compiler.set_stance("force_eager")
    try:
        compiled: Trainer = bench.trainer(spec_of(compile=True))
        compiled.restore(tmp_path / "2")
        compiled.run(Recorder())
    finally:
        torch.compiler.set_stance("default")
    assert compiled.history.losses == expected


def test_a_caption_may_be_left_out(lines: Bench) -> None:
    """A network that only learns without captions knows nothing of any."""
    made = Lines()
    asked = spec_of(training_type="FULL", caption_dropout=1.0, moves={"weight_decay": 0})
    lines.train(asked, family=family_of(lambda: made))
    moved = (made.module[0].weight != 0.05).any(dim=0)
    assert moved.tolist() == [number == 7 for number in range(8)]


def test_one_worker_is_alone() -> None:
    tensor = torch.ones(2)
    ALONE.all_reduce([tensor])
    ALONE.broadcast([tensor])
    assert tensor.tolist() == [1, 1]
