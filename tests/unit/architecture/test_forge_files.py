"""The files that a public forge and pre-commit read: well formed, and calling what the project has."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
ELEMENTS = {"markdown": {"value"}, "input": {"label"}, "textarea": {"label"}, "dropdown": {"label", "options"}}
"""The elements of an issue form that are used here, with the attributes that each must have."""


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_a_form_must_have(form: Path) -> None:
    content = read(form)
    assert content.keys() == {"name", "description", "labels", "body"}
    for element in content["body"]:
        assert element["attributes"].keys() >= ELEMENTS[element["type"]]
    asked = [element["id"] for element in content["body"] if element["type"] != "markdown"]
    assert asked
    assert len(asked) == len(set(asked))


def test_both_issue_forms_are_offered() -> None:
    assert [form.stem for form in FORMS] == ["bug", "feature"]


def test_the_workflow_runs_what_ci_runs() -> None:
    [job] = read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"].values()
    [python] = [step["with"] for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python@")]
    assert (python["python-version"], python["cache-dependency-path"]) == ("3.11", "constraints.txt")
    assert job["steps"][-1]["run"] == "bash .ci/run"
    assert (ROOT / ".ci" / "run").is_file()


def test_pre_commit_calls_the_programs_of_make_check() -> None:
    [repository] = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    entries = {hook["entry"].removesuffix(" --force-exclude") for hook in repository["hooks"]}
    recipe = (ROOT / "Makefile").read_text().split("\ncheck:")[1].split("\n\n")[0]
    commands = re.findall(r"\t\$\(BIN\)/(.+)", recipe)
    assert entries == {f".venv/bin/{command.removesuffix(' .')}" for command in commands}
    programs = Path(sys.executable).parent
    assert all((programs / command.split()[0]).exists() for command in commands)
