"""The client against servers that are not what they should be: real ones on loopback that answer by script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compute.cli import app
from compute.client import Client, ClientError
from compute.schemas.enums import StepStatus, WorkflowStatus
from tests.unit.cli.scripted import server
from tests.unit.terminal.views import ID, NOW, step, workflow

ROOT = Path(__file__).parents[3]
GATEWAY = (502, "<html>Bad Gateway</html>")
RUNNING = (200, json.dumps(workflow(step("draw", StepStatus.RUNNING))))
COMPLETED = (
    200,
    json.dumps(
        workflow(
            step("draw", StepStatus.COMPLETED),
            status=WorkflowStatus.COMPLETED,
            completed_at=NOW,
            final_step_id="draw",
        )
    ),
)
LINK = "http://127.0.0.1:8000/api/v1/storage/images/generations/1/0.png?expires=1&signature=x"
LINKS = (200, json.dumps({"steps": [{"name": "draw", "output": {"images": [{"url": LINK}]}}]}))


def refusal(answer: tuple[int, str]) -> ClientError:
    with server([answer]) as script, Client(script.url, "key") as client, pytest.raises(ClientError) as refused:
        client.workflow(str(ID))
    return refused.value


def test_a_gateway_without_json_is_told_by_its_status_and_may_recover() -> None:
    refused = refusal(GATEWAY)
    assert (str(refused), refused.status, refused.may_pass) == ("the server answers 502 Bad Gateway", 502, True)


def test_a_problem_is_told_in_the_servers_words() -> None:
    refused = refusal((404, '{"detail": "There is no such workflow.", "code": "NOT_FOUND"}'))
    assert (str(refused), refused.may_pass) == ("There is no such workflow.", False)


def test_one_fault_is_one_line_and_several_have_one_each() -> None:
    width = {"loc": ["body", "steps", 1, "config", "width"], "msg": "too wide", "type": "x"}
    alone = {"loc": ["body"], "msg": "no", "type": "x"}
    assert str(refusal((422, json.dumps({"detail": [width]})))) == "steps.1.config.width: too wide"
    both = str(refusal((422, json.dumps({"detail": [width, alone]}))))
    assert both == "2 things are wrong:\n  steps.1.config.width: too wide\n  no"


@pytest.mark.parametrize("body", ["<html>", "[]", "{}", "null", '"text"', '{"id": 1}'])
def test_another_kind_of_server_is_recognised(body: str) -> None:
    assert "does not answer as this API does" in str(refusal((200, body)))


@pytest.mark.parametrize("url", ["http://[", "ftp://127.0.0.1", "no address", "http://127.0.0.1:99999"])
def test_an_address_that_is_none_is_an_error_of_the_client(url: str) -> None:
    with pytest.raises(ClientError), Client(url, "ключ") as client:
        client.workflow(str(ID))


def test_both_spellings_and_any_name_of_a_step_lead_to_the_canonical_place() -> None:
    with server([RUNNING, RUNNING]) as script, Client(f"{script.url}/", "key") as client:
        client.workflow(f"wf_{ID.hex}")
        client.approve_step(ID.hex, "look at it? 100 %")
    place = f"/api/v1/workflows/{ID}"
    assert script.asked == [f"GET {place}", f"POST {place}/steps/look%20at%20it%3F%20100%20%25/approve"]


def watched(url: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "compute.cli", "workflow", "watch", str(ID), "--url", url, "--key", "key"]
    environment = {**os.environ, "COMPUTE_HOME": str(home)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


def test_a_server_that_is_away_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    with server([RUNNING, GATEWAY, GATEWAY, COMPLETED, LINKS]) as script:
        ended = watched(script.url, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1] == LINK
    assert script.asked[-1] == f"GET /api/v1/workflows/wf_{ID.hex}"


def test_a_server_that_was_never_there_is_not_waited_for(tmp_path: Path) -> None:
    with server([GATEWAY]) as script:
        ended = watched(script.url, tmp_path)
    assert (ended.returncode, ended.stderr) == (1, "compute: the server answers 502 Bad Gateway\n")


COMMANDS = [
    ["generate", "a hat"],
    ["workflow", "watch", str(ID)],
    ["workflow", "show", str(ID)],
    ["workflow", "cancel", str(ID)],
    ["workflow", "run", str(ROOT / "examples" / "product-to-model.yaml")],
]
STRANGE = [
    (200, "<html>Sign in</html>"),
    (200, "{}"),
    (302, ""),
    (401, "<html>Unauthorized</html>"),
    (404, '{"message": "no Route matched"}'),
    (422, '{"detail": [{"loc": ["body", "x"], "msg": "\\u001b[2Jno", "type": "y"}]}'),
    (502, "<html>Bad Gateway</html>"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: "-".join(words[:2]))
def test_whatever_a_server_answers_a_command_says_one_thing_and_exits_with_1(
    tmp_path: Path, command: list[str]
) -> None:
    for answer in STRANGE:
        with server([answer]) as script:
            line = [*command, "--url", script.url, "--key", "key"]
            ended = CliRunner().invoke(app, line, env={"COMPUTE_HOME": str(tmp_path)})
        assert (ended.exit_code, ended.stdout) == (1, ""), answer
        assert ended.stderr.startswith("compute: "), answer
        assert (ended.stderr.count("\n"), "\x1b" in ended.stderr) == (1, False), answer
