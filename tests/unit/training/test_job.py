"""A job's configuration file, and the command line that the supervisor writes."""

import shlex
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from compute.deployments.args import TrainingArgs
from compute.deployments.training import entrypoint
from compute.errors import InvalidInput
from compute.schemas.training import TrainingStatus
from compute.settings import Settings
from compute.training.export.results import model_files
from compute.training.job import read_config
from compute.training.rows.queue import TrainingRun

SHORT = """
trigger_word: Kimono à fleurs
model: default
steps: 10
data:
  images: [looks/a.png]
"""


def test_a_short_file_is_enough() -> None:
    spec = read_config(SHORT, Settings())
    assert (spec.model.name, spec.model.source, spec.model.resolution) == ("default", "demo-flux", 128)
    assert spec.output_name.startswith("Kimono-a-fleurs-")
    assert read_config(SHORT, Settings()).id != spec.id


def test_a_file_may_name_its_training_so_that_it_goes_on_with_it() -> None:
    named = uuid4()
    assert read_config(f"id: {named}\n{SHORT}", Settings()).id == named


def test_a_model_may_be_described_in_place() -> None:
    described = SHORT.replace("model: default", "model: {name: mine, source: /models/mine, family: sdxl}")
    assert read_config(described, Settings()).model.family == "sdxl"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("model: default", "model: sd-1.5"), "known: default"),
        (("images: [looks/a.png]", "images: []"), "Exactly one of `images` and `archive`"),
        (("images: [looks/a.png]", "images: [a.png]\n  archive: b.zip"), "Exactly one of `images` and `archive`"),
        (("images: [looks/a.png]", "images: [a.png]\n  captioning: vision"), "No vision provider"),
        (("steps: 10", "steps: 0"), "greater than or equal to 1"),
        (("steps: 10", "steps: 10\nrank: 4096"), "less than or equal to 256"),
        (("steps: 10", "steps: 10\nepochs: 3"), "exactly one of `steps` and `epochs`"),
        (("steps: 10", "steps: 10\nweighting: min_snr"), "for models of family flux"),
        (
            ("model: default", "model: {name: mine, source: /models/mine, family: sdxl}\nweighting: cosmap"),
            "must be one of min_snr, none for models of family sdxl",
        ),
        (("steps: 10", "steps: 10\ntraining_type: FULL\nbase_precision: fp8"), "fp8 for a LoRA only"),
        (("steps: 10", "steps: 10\nworkers: 2"), "must not exceed"),
        (("steps: 10", "steps: 10\nlearning_rate: 1"), "Extra inputs"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_starts(change: tuple[str, str], message: str) -> None:
    with pytest.raises((InvalidInput, ValidationError), match=message):
        read_config(SHORT.replace(*change), Settings())


def test_the_command_line_names_the_training_its_fence_its_cluster_and_what_it_gets() -> None:
    training_id = UUID(int=7)
    run = TrainingRun(training_id, 3, "train-7-3", TrainingStatus.PENDING, 1, datetime.now(UTC), None, "hat")
    args = TrainingArgs(workers=2, gpus_per_worker=1)
    words = shlex.split(entrypoint(run, args, "compute/Training", "10.0.0.1:6379"))
    assert words[1:3] == ["-m", "compute.training.job"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options["--task"] == str(training_id)
    assert (options["--fence"], options["--workers"], options["--gpus"]) == ("3", "2", "1.0")
    assert (options["--supervisor"], options["--cluster"]) == ("compute/Training", "10.0.0.1:6379")


def test_a_whole_model_is_the_trained_part_and_the_bases_others(tmp_path: Path) -> None:
    base, export = tmp_path / "base", tmp_path / "export"
    for name in ("model_index.json", "vae/config.json", "transformer/config.json", "transformer/old.safetensors"):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text("base")
    for name in ("transformer/config.json", "transformer/new.safetensors", "about.json"):
        (export / name).parent.mkdir(parents=True, exist_ok=True)
        (export / name).write_text("trained")
    found = {name.as_posix(): path.read_text() for name, path in model_files(base, export).items()}
    assert found == {
        "model_index.json": "base",
        "vae/config.json": "base",
        "transformer/config.json": "trained",
        "transformer/new.safetensors": "trained",
    }
