"""A training that is picked up from a checkpoint ends as the one that never stopped, to the last bit."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.unit.training.loop.rig import Bench, Recorder, learned, spec_of

# 5 and 3 pictures in batches of 2 are five batches, so that a checkpoint lies inside an epoch.
SEVERAL = {"steps": 7, "save_every": 3, "batch_size": 2}
EVERYTHING = {
    "gradient_accumulation": 2,
    "ema_decay": 0.9,
    "caption_dropout": 0.5,
    "guidance": (1.0, 4.0),
    "timesteps": "shifted",
    "moves": {"schedule": "cosine", "warmup_steps": 2},
}


@pytest.fixture(scope="module")
def checkpoints(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of a plain training with a moving average."""
    folder = tmp_path_factory.mktemp("checkpoints")
    bench.train(spec_of(**SEVERAL, ema_decay=0.9), Recorder(folder))
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {},
        EVERYTHING,
        {"training_type": "FULL", "ema_decay": 0.5},
        {"precision": "bf16", "ema_decay": 0.9},
        {"base_precision": "fp8"},
        {"optimizer": "adafactor"},
        {"optimizer": "sgd", "moves": {"schedule": "linear"}},
        {"optimizer": "adamw8bit"},
    ],
    ids=["plain", "everything", "full", "bf16", "fp8", "adafactor", "sgd", "adamw8bit"],
)
def test_the_end_is_the_same(bench: Bench, tmp_path: Path, options: dict[str, Any]) -> None:
    asked = spec_of(**SEVERAL, **options)
    heard, again = Recorder(tmp_path), Recorder()
    undisturbed = bench.train(asked, heard)
    resumed = bench.trainer(asked)
    resumed.restore(tmp_path / "3")
    assert (resumed.step, resumed.history.losses) == (3, undisturbed.history.losses[:3])
    resumed.run(again)
    assert [report.step for report in again.reports] == [4, 5, 6, 7]
    assert (heard.saves, again.saves) == ([3, 6, 7], [6, 7])
    assert resumed.history == undisturbed.history
    expected, found = _exported(undisturbed, tmp_path / "one"), _exported(resumed, tmp_path / "other")
    assert expected.keys() == found.keys()
    assert [name for name, weight in expected.items() if not torch.equal(weight, found[name])] == []


def test_any_checkpoint_will_do(bench: Bench, tmp_path: Path) -> None:
    asked = spec_of(steps=5, save_every=1)
    undisturbed = bench.train(asked, Recorder(tmp_path)).history.losses
    for step in range(1, 6):
        resumed = bench.trainer(asked)
        resumed.restore(tmp_path / str(step))
        resumed.run(Recorder())
        assert resumed.history.losses == undisturbed


def test_a_finished_training_has_nothing_left_to_do(bench: Bench, checkpoints: Path) -> None:
    heard = Recorder()
    trainer = bench.trainer(spec_of(**SEVERAL, ema_decay=0.9))
    trainer.restore(checkpoints / "7")
    trainer.run(heard)
    assert (trainer.step, heard.reports, heard.saves) == (7, [], [])


def test_other_users_of_the_generator_do_not_matter(bench: Bench, checkpoints: Path) -> None:
    asked = spec_of(**SEVERAL, ema_decay=0.9)
    losses = []
    for seed in (1, 2):
        trainer = bench.trainer(asked)
        torch.manual_seed(seed)
        trainer.restore(checkpoints / "3")
        torch.rand(seed)
        trainer.run(Recorder())
        losses.append(trainer.history.losses)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("options", [{"rank": 1}, {"rank": 8}, {"training_type": "FULL"}])
def test_a_checkpoint_of_another_network_is_refused(
    bench: Bench, checkpoints: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    trainer = bench.trainer(spec_of(**SEVERAL, **options))
    with pytest.raises(ValueError, match="another network"):
        trainer.restore(checkpoints / "3")


def test_an_average_that_is_missing_is_noticed(bench: Bench, checkpoints: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoints / "3", tmp_path / "3")
    (folder / "average.safetensors").unlink()
    with pytest.raises(FileNotFoundError):
        bench.trainer(spec_of(**SEVERAL, ema_decay=0.9)).restore(folder)
    bench.trainer(spec_of(**SEVERAL)).restore(folder)


class _Code:
    """What a pickle may do when it is read as such."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("write", [torch.save, lambda state, file: file.write_bytes(pickle.dumps(state, protocol=2))])
def test_a_checkpoint_is_data_and_never_code(bench: Bench, checkpoints: Path, tmp_path: Path, write: Any) -> None:
    folder = shutil.copytree(checkpoints / "3", tmp_path / "3")
    write({"step": 3, "history": _Code(tmp_path / "was here")}, folder / "state.pt")
    with pytest.raises(OSError, match=r"state\.pt"):
        bench.trainer(spec_of(**SEVERAL, ema_decay=0.9)).restore(folder)
    assert not (tmp_path / "was here").exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "average.safetensors", "state.pt"])
@pytest.mark.parametrize("rest", [0, 100])
def test_half_a_file_is_noticed(bench: Bench, checkpoints: Path, tmp_path: Path, name: str, rest: int) -> None:
    folder = shutil.copytree(checkpoints / "3", tmp_path / "3")
    (folder / name).write_bytes((folder / name).read_bytes()[:rest])
    with pytest.raises(OSError, match=name):
        bench.trainer(spec_of(**SEVERAL, ema_decay=0.9)).restore(folder)


def test_it_holds_what_the_optimizer_works_on(bench: Bench, tmp_path: Path) -> None:
    bench.train(spec_of(precision="bf16", steps=1), Recorder(tmp_path))
    assert {weight.dtype for weight in load_file(tmp_path / "1" / "weights.safetensors").values()} == {torch.float32}
    assert {file.name for file in (tmp_path / "1").iterdir()} == {"weights.safetensors", "state.pt"}


def test_it_is_what_the_network_computes_with_afterwards(bench: Bench, checkpoints: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoints / "7", tmp_path / "7")
    weights = load_file(folder / "weights.safetensors")
    save_file({name: torch.zeros_like(value) for name, value in weights.items()}, folder / "weights.safetensors")
    trainer = bench.trainer(spec_of(**SEVERAL, precision="bf16"))
    trainer.restore(folder)
    assert not any(value.any() for value in learned(trainer, tmp_path / "export").values())


def _exported(trainer: Any, folder: Path) -> dict[str, torch.Tensor]:
    folder.mkdir()
    trainer.export(folder)
    found: dict[str, torch.Tensor] = {}
    for file in folder.rglob("*.safetensors"):
        found |= load_file(file)
    return found
