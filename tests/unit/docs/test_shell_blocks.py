"""What shell samples send and write is accepted by what reads it; whether they run is tried where they are pasted."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from compute.api.app import create_app
from compute.requests.serving import Serving
from compute.settings import Settings
from compute.training.job import read_config
from tests.unit.docs.blocks import blocks
from tests.unit.workflows.test_examples import checked

SHELL = [block for block in blocks() if block.language == "sh"]
_FILE = re.compile(r"^cat > (\S+\.yaml) <<'END'\n(.*?)^END$", re.DOTALL | re.MULTILINE)
_BODY = re.compile(r" -d '(\{.+?)'(?=[\s)])", re.DOTALL)
_ADDRESS = re.compile(r"\$API(?:/api/v1)?(/[a-z/]+)")
_INSERTED = re.compile(r"""(\[?)'"\$[({]?.+?"'""")
"""A variable or a command of the shell within a body, and whether it is a whole element of a list."""
FILES = [(f"{block}:{name}", name, text) for block in SHELL for name, text in _FILE.findall(block.text)]
BODIES = [
    (str(block), _ADDRESS.findall(block.text[: body.start()])[-1], body[1])
    for block in SHELL
    for body in _BODY.finditer(block.text)
]
"""The block, the path after `/api/v1`, and the body, of each request that is sent with one."""


@pytest.mark.parametrize(("name", "text"), [file[1:] for file in FILES], ids=[file[0] for file in FILES])
def test_a_file_is_accepted(name: str, text: str, tmp_path: Path) -> None:
    content = yaml.safe_load(text)
    if isinstance(content.get("steps"), list):
        (tmp_path / name).write_text(text)
        assert checked(tmp_path / name).steps
    else:
        assert read_config(text, Settings(home=tmp_path)).trigger_word


def test_there_are_workflows_and_trainings() -> None:
    assert {name for _, name, _ in FILES} >= {"four-dresses.yaml", "any-garment.yaml", "train.yaml"}


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document. A body without a type fits several of a union; the server takes the usual one."""
    return of_any(create_app(Settings(home=Path("unused")), Serving({})).openapi())


def of_any(schema: Any) -> Any:
    if isinstance(schema, list):
        return [of_any(part) for part in schema]
    if isinstance(schema, dict):
        return {"anyOf" if name == "oneOf" else name: of_any(part) for name, part in schema.items()}
    return schema


@pytest.mark.parametrize(("path", "body"), [one[1:] for one in BODIES], ids=[one[0] for one in BODIES])
def test_a_body_is_accepted(path: str, body: str) -> None:
    whole = _INSERTED.sub(lambda found: f'{found[1]}"x"' if found[1] else "x", body)
    place = f"/api/v1{path}".replace("/", "~1")
    reference = f"urn:api#/paths/{place}/post/requestBody/content/application~1json/schema"
    registry = Registry().with_resource("urn:api", Resource(contents=document(), specification=DRAFT202012))
    content = json.loads(whole)
    for task in content.get("tasks", ()):
        task.pop("type", None)  # the quick start's name for `task_type`, which the document leaves out here
    faults = Draft202012Validator({"$ref": reference}, registry=registry).iter_errors(content)
    assert [f"{fault.json_path}: {fault.message}" for fault in faults] == []


def test_every_body_is_found() -> None:
    assert len(BODIES) == sum(len(re.findall(r" -d '\{", block.text)) for block in SHELL)
