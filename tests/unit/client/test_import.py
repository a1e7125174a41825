"""The client's import: quick, and without anything of the server."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import compute.client
from tools import unasync

FOLDER = Path(compute.client.__file__).parent
MOST = 2.2
"""Times the import of httpx, whose own takes 65 ms where ours takes 85: the target of 150 ms, on any machine."""
HTTPX = """
import json, time
began = time.process_time()
import httpx
print(json.dumps((time.process_time() - began) * 1000))
"""
IMPORTED = """
import json, sys, time
began = time.process_time()
from compute.client import AsyncCompute, ClientError, Compute, verify_webhook
took = time.process_time() - began
with Compute("http://127.0.0.1:1", "key"):
    print(json.dumps([took * 1000, sorted(name for name in sys.modules if "." not in name)]))
"""
ANSWERED = """
import json, sys
from compute.client import Task, Training, Workflow
from compute.client.common.reading import reader, task_of
task_of({"id": "1", "status": "COMPLETED"})
for module, name in (("calls", "ProviderPublic"), ("evaluation", "EvaluationResponse"), ("lora", "LoRAList")):
    reader(module, name)({})
print(json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""
HEAVY = {
    "PIL", "aiohttp", "alembic", "boto3", "cv2", "diffusers", "fastapi", "numpy", "pgserver", "psycopg", "ray",
    "sqlalchemy", "starlette", "torch", "transformers", "yaml",
}  # fmt: skip


def run(code: str) -> object:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)  # noqa: S603


def test_importing_it_is_quick_and_loads_nothing_of_the_server() -> None:
    # In turns, so that a busy machine slows both alike.
    pairs = [(run(IMPORTED), run(HTTPX)) for _ in range(5)]
    found = [ours for ours, _ in pairs]
    assert min(took for took, _ in found) < MOST * min(alone for _, alone in pairs), pairs
    assert HEAVY.isdisjoint(found[0][1])


def test_reading_answers_loads_nothing_of_the_server_either() -> None:
    assert HEAVY.isdisjoint(run(ANSWERED))


def test_every_name_is_there_and_has_one_place() -> None:
    tree = ast.parse((FOLDER / "__init__.py").read_text())
    for_checkers = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("compute.client")
        for alias in node.names
    }
    assert for_checkers == set(compute.client.__all__)
    for name in compute.client.__all__:
        assert getattr(compute.client, name).__name__ == name
    with pytest.raises(AttributeError, match="unknown"):
        _ = compute.client.unknown


def names_in(path: Path) -> set[str]:
    """The functions of a module."""
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("path", sorted(unasync.AIO.glob("*.py")), ids=lambda path: path.name)
def test_the_synchronous_client_is_made_of_the_asynchronous_one(path: Path) -> None:
    twin = unasync.SYNC / path.name
    if unasync.written_by_hand(path):
        assert names_in(path) == names_in(twin)
    else:
        assert twin.read_text() == unasync.converted(path.read_text()), "run `python -m tools.unasync`"


def test_nothing_else_lies_beside_it() -> None:
    assert {path.name for path in unasync.SYNC.glob("*.py")} == {path.name for path in unasync.AIO.glob("*.py")}
