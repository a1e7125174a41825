"""The examples are workflows that can run."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import compute
from compute.api.workflows.bodies import definition_of
from compute.requests.serving import ServedModel, Serving
from compute.workflows.definition.check import CheckedWorkflow, check_workflow

EXAMPLES = Path(compute.__file__).parent.parent / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))
SERVING = Serving(
    {
        "inference": ServedModel("model"),
        "refine": ServedModel("model"),
        "image": ServedModel(None, 1, queue="image", roles=frozenset()),
    }
)
GIVEN: dict[str, dict[str, Any]] = {"lora-then-generate": {"lora": "identities/anna.safetensors"}}
"""What the command that the file shows gives on its line."""


def checked(file: Path, given: dict[str, Any] | None = None) -> CheckedWorkflow:
    definition, _ = definition_of(yaml.safe_load(file.read_text()))
    return check_workflow(definition, SERVING, (definition.input or {}) | (given or {}))


def test_there_are_examples() -> None:
    assert {file.stem for file in FILES} >= {"product-to-model", "catalogue-batch", "lora-then-generate"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_is_accepted(file: Path) -> None:
    assert checked(file, GIVEN.get(file.stem)).steps


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_says_how_it_is_run_and_is_listed(file: Path) -> None:
    assert f"compute workflow run examples/{file.name}" in file.read_text()
    assert f"({file.name})" in (EXAMPLES / "README.md").read_text()


def test_the_batch_makes_a_task_for_each_prompt_and_for_each_picture() -> None:
    steps = {step.definition.id: step.spread for step in checked(EXAMPLES / "catalogue-batch.yaml").steps}
    assert steps["draw"] == steps["draw-again"] == {"prompt"}
    assert steps["draw-simply"] == steps["cut-out"] == frozenset()
    assert steps["shape"] == {"input_image"}
