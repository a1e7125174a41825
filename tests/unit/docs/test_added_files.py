"""What the how-to pages add to the project, written into a copy of it as they say: the project then works with it.

The first line of such a block says where it belongs: `# FILE` (the whole file), `# FILE, in NAME` (as the last entry of
that class or mapping), `# FILE, instead of: LINE`.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.patience import PATIENCE
from tests.unit.docs.blocks import ROOT, Block
from tests.unit.docs.ways import Way, pages_of, tried

TASK_TYPE, PROVIDER, MODEL, TRAINING = (
    f"docs/howto/add-a-{what}.md" for what in ("task-type", "provider", "model-family", "training-family")
)
TRIALS = {"task_type": [TASK_TYPE], "provider": [PROVIDER], "families": [MODEL, TRAINING]}
"""By module of `trials`, which uses what is added: the pages that are followed before."""

RUFF = (sys.executable, "-m", "ruff")
# A page may add two files of which one imports the other, and ruff sorts what is not there yet as somebody else's.
OURS = ("--config", 'lint.isort.known-first-party = ["tests"]')

WHOLE_FILE = re.compile(r"# \S+\.py\n")
_PLACE = re.compile(r"# (?P<file>\S+\.py)(?:, in (?P<name>\w+)|, instead of: (?P<line>.+))?")


def add(block: Block, project: Path) -> None:
    """Write one block to where its first line says."""
    first, _, text = block.text.partition("\n")
    place = _PLACE.fullmatch(first)
    assert place, f"{block}: {first!r} says no place"
    file = project / place["file"]
    if place["name"]:
        file.write_text(with_entry(file.read_text(), place["name"], text))
    elif place["line"]:
        before = file.read_text()
        assert before.count(place["line"]) == 1, f"{block}: the line to be replaced is not there once"
        file.write_text(before.replace(place["line"], text.strip()))
    else:
        assert not file.exists(), f"{block}: {file.name} is there already"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def with_entry(source: str, name: str, entry: str) -> str:
    """The source with one entry more in the class or mapping of this name."""
    found = [node for node in ast.parse(source).body if name in names_of(node)]
    assert len(found) == 1, f"{name} is not defined once"
    [node] = found
    if isinstance(node, ast.ClassDef):
        last = max(part.end_lineno or 0 for part in node.body if isinstance(part, ast.Assign | ast.AnnAssign))
    else:
        last = (node.end_lineno or 0) - 1
    lines = source.splitlines(keepends=True)
    return "".join([*lines[:last], textwrap.indent(entry, "    "), *lines[last:]])


def names_of(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def test_every_page_that_adds_files_has_a_trial() -> None:
    assert set(pages_of(Way.INSTALLED)) == {page for pages in TRIALS.values() for page in pages}


@pytest.mark.parametrize("block", [block for block in tried(Way.INSTALLED) if WHOLE_FILE.match(block.text)], ids=str)
def test_what_a_page_adds_is_in_the_projects_style(block: Block) -> None:
    place, _, text = block.text.partition("\n")
    for command in ("check", "format --diff"):
        ran = subprocess.run(  # noqa: S603
            [*RUFF, *command.split(), *OURS, "--quiet", f"--stdin-filename={ROOT / place.removeprefix('# ')}", "-"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("trial", TRIALS)
def test_the_project_works_with_what_pages_add(trial: str, tmp_path: Path) -> None:
    left_out = shutil.ignore_patterns("__pycache__", "demo_flux", "*.pyc")
    shutil.copytree(ROOT / "compute", tmp_path / "compute", ignore=left_out)
    for block in (
        block for page in TRIALS[trial] for block in tried(Way.INSTALLED, page) if block.language == "python"
    ):
        add(block, tmp_path)
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-m", f"tests.unit.docs.trials.{trial}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert ran.returncode == 0, ran.stderr
