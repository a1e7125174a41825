"""The fields of requests are those of the schemas, and what `submit` takes depends on the type."""

import subprocess
import sys
from pathlib import Path

from compute.client.requests import BY_TYPE, OTHER_NAMES
from compute.tasks.registry import all_kinds
from tools import request_types

ROOT = Path(__file__).parents[3]
PROGRAM = """
from compute.client import Compute

client = Compute("http://127.0.0.1:9", "key")
client.tasks.submit(prompt="a hat", width=64)
client.tasks.submit(width=64)
client.tasks.submit("EDITING", base_image="refs/hat.png", wrong=1)
client.tasks.submit("REFINE", base_image_url="refs/hat.png", upscale_factor="2")
client.tasks.submit("DREAMING", {"prompt": "a hat"}, mood=1)
client.trainings.train(rank=16)
for task in client.tasks.list():
    task.id.hex
    task.prompt.upper()
"""
WRONG = [6, 7, 8, 10]
"""The lines that a type checker must refuse."""


def test_the_modules_are_made_of_the_schemas() -> None:
    made = "run `python -m tools.request_types && python -m tools.unasync`"
    assert request_types.FIELDS.read_text() == request_types.fields_written(), made
    assert request_types.SIGNATURES.read_text() == request_types.signatures_written(), made


def test_every_type_has_its_fields() -> None:
    assert BY_TYPE.keys() == OTHER_NAMES.keys() == {kind.value for kind in all_kinds()}


def test_a_type_checker_knows_the_fields_of_each_type(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    said = [line.split(":") for line in ended.stdout.splitlines() if ": error:" in line and "program.py" in line]
    assert sorted({int(line[1]) for line in said}) == WRONG, ended.stdout[-2000:]
