"""Configurations, bodies and diagrams of the documentation are what they are said to be."""

import json
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from compute.api.app import create_app
from compute.api.tasks.position import Position
from compute.deployments.args import PoolArgs, ProviderArgs, TrainingArgs
from compute.pipelines.config import ModelConfig
from compute.providers.calls.call import CallState
from compute.requests.serving import Serving
from compute.settings import Settings
from compute.stack.cluster.serve_config import read_serve_config
from compute.tasks.states import TRANSITIONS
from compute.training.states import TRAINING_TRANSITIONS
from compute.workflows.states import WORKFLOW_TRANSITIONS
from tests.unit.docs.blocks import ROOT, Block
from tests.unit.docs.ways import Way, tried

LEFT_OUT = "…"
"""What stands for the rest, within a text, or in the place of further members."""

MARKED_BY = {
    ("task_id", "task_type", "event_type"): "TaskStatusEvent",
    ("task_id", "current_step", "event_type"): "TrainingStatusEvent",
    ("workflow_id", "event_type"): "WorkflowStatusEvent",
    ("id", "task_type"): "CanonicalTask",
    ("task_type", "prompt"): "CreateGenerationTask",
    ("id", "type"): "QuickstartTask",
    ("id", "output"): "QuickstartTraining",
    ("images",): "QuickstartOutput",
    ("file_path", "partial_path"): "LoRAUploadResponse",
    ("detail", "code"): "Problem",
    ("expected_framing",): "EvaluationRequest",
}
"""The schema of a body that has these members; the first that fits counts."""

SCHEMA_OF_EVENT = {
    "status": "TaskProgress",
    "progress": "TaskProgress",
    "text": "TaskText",
    "completed": "CanonicalTask",
}
CALLS = {
    CallState.INTENT: [
        CallState.ACCEPTED,
        CallState.COLLECTED,
        CallState.FAILED,
        CallState.UNCERTAIN,
        CallState.CANCELLED,
    ],
    CallState.ACCEPTED: [CallState.COLLECTED, CallState.FAILED, CallState.CANCELLED],
    CallState.UNCERTAIN: [
        CallState.ACCEPTED,
        CallState.COLLECTED,
        CallState.FAILED,
        CallState.GIVEN_UP,
        CallState.RESENT,
    ],
}
"""The moves of a paid call. The statements that write them (`compute.providers.ledger`) have no table of them."""
STATES = {
    "PENDING QUEUED": TRANSITIONS,
    "PREPROCESSING": TRAINING_TRANSITIONS,
    "PAUSED": WORKFLOW_TRANSITIONS,
    "INTENT": CALLS,
}
"""The table of a diagram that has these states."""

_ARROW = re.compile(r"(\S+) --> (\S+?)(?:: .+)?")
_SEQUENCE = re.compile(r"autonumber|end|loop .+|(actor|participant) \w+( as .+)?|\w+(->>|-->>|-\)|--\))\w+: .+")


def those_in(*languages: str) -> list[Block]:
    return [block for block in tried(Way.PARSED) if block.language in languages]


@cache
def schemas() -> dict[str, Any]:
    """The schemas of the OpenAPI document by name. Nothing is required: a page shows the members that matter."""
    document = create_app(Settings(home=Path("unused")), Serving({})).openapi()
    return loosened(document["components"]["schemas"])


def loosened(schema: Any) -> Any:
    """The schema without `required`, closed to members that it does not name. Several of a union may fit then."""
    if isinstance(schema, list):
        return [loosened(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: part for name, part in schema.items() if name != "required" or isinstance(part, dict)}
    loose = {"anyOf" if name == "oneOf" else name: loosened(part) for name, part in kept.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        loose["additionalProperties"] = False
    return loose


def faults_of(value: Any, name: str) -> list[str]:
    """How a body differs from the schema of this name."""
    everything = Resource(contents={"components": {"schemas": schemas()}}, specification=DRAFT202012)
    reference = {"$ref": f"urn:api#/components/schemas/{name}"}
    validator = Draft202012Validator(reference, registry=Registry().with_resource("urn:api", everything))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def whole(text: str) -> Any:
    """A body with what is left out taken away."""
    return json.loads(re.sub(rf"(?<=[\[{{]){LEFT_OUT}|, *{LEFT_OUT}(?=\s*[\]}}])", "", text))


def schema_of(body: dict[str, Any]) -> str:
    names = [name for members, name in MARKED_BY.items() if body.keys() >= set(members)]
    assert names, f"a body with {', '.join(body)} is of no known kind"
    if names[0] == "Problem" and isinstance(body["detail"], list):
        return "HTTPValidationError"
    return names[0]


@pytest.mark.parametrize("block", those_in("json"), ids=str)
def test_a_body_is_of_its_schema(block: Block) -> None:
    body = whole(block.text)
    assert faults_of(body, schema_of(body)) == []


@pytest.mark.parametrize("block", those_in("sse"), ids=str)
def test_events_are_of_their_schemas(block: Block) -> None:
    for event in block.text.strip().split("\n\n"):
        position, named, data = event.splitlines()
        assert Position.read(position.removeprefix("id: "))
        name = named.removeprefix("event: ")
        assert faults_of(whole(data.removeprefix("data: ")), SCHEMA_OF_EVENT[name]) == []


@pytest.mark.parametrize("block", those_in("http"), ids=str)
def test_headers_are_headers(block: Block) -> None:
    assert [line for line in block.text.splitlines() if not re.fullmatch(r"[A-Za-z-]+: \S.*", line)] == []


@pytest.mark.parametrize("block", those_in("yaml"), ids=str)
def test_a_configuration_is_taken(block: Block, tmp_path: Path) -> None:
    content = yaml.safe_load(block.text)
    match list(content):
        case [*keys] if "http_options" in keys:
            (tmp_path / "serve_config.yaml").write_text(block.text)
            assert read_serve_config(tmp_path / "serve_config.yaml", None).validated().applications
        case ["applications"]:
            shipped = yaml.safe_load((ROOT / "serve_config.yaml").read_text())["applications"][0]
            part = {"http_options": {}, "applications": [shipped | content["applications"][0]]}
            (tmp_path / "serve_config.yaml").write_text(yaml.safe_dump(part))
            assert read_serve_config(tmp_path / "serve_config.yaml", None).validated().applications
        case ["model"]:
            ModelConfig.model_validate(content["model"])
        case ["training"]:
            TrainingArgs.model_validate(content["training"])
        case ["providers"]:
            ProviderArgs.model_validate(content["providers"])
        case ["pools"]:
            assert [PoolArgs.model_validate(pool) for pool in content["pools"]]
        case keys:
            pytest.fail(f"{block}: a configuration with {', '.join(keys)} is of no known kind")


@pytest.mark.parametrize("block", those_in("mermaid"), ids=str)
def test_a_diagram_is_drawn(block: Block) -> None:
    kind, *lines = [line.strip() for line in block.text.splitlines() if line.strip()]
    if kind == "sequenceDiagram":
        assert [line for line in lines if not _SEQUENCE.fullmatch(line)] == []
        return
    assert kind == "stateDiagram-v2"
    arrows = [match.groups() for line in lines if (match := _ARROW.fullmatch(line))]
    assert len(arrows) == len(lines)
    [table] = [
        table for states, table in STATES.items() if set(states.split()) <= {name for one in arrows for name in one}
    ]
    drawn = {(source, target) for source, target in arrows if "[*]" not in (source, target)}
    assert drawn == {(source.value, target.value) for source, targets in table.items() for target in targets}


def test_the_layers_are_those_of_the_contract() -> None:
    [block] = those_in("text")
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    assert [re.split(" {2,}", line)[0] for line in block.text.splitlines()] == contract["layers"]
