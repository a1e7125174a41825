"""Commands against servers that are not what they should be: real ones on loopback that answer by script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compute.cli import app
from compute.schemas.enums import StepStatus, WorkflowStatus
from tests.unit.cli.every_command import asking
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


def watched(url: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "compute.cli", "workflow", "watch", str(ID), "--url", url, "--key", "key"]
    environment = {**os.environ, "COMPUTE_HOME": str(home)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


def test_a_server_that_is_away_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    with server([RUNNING, *[GATEWAY] * 4, COMPLETED, LINKS]) as script:
        ended = watched(script.url, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1] == LINK
    assert script.asked[-1] == f"GET /api/v1/workflows/wf_{ID.hex}"


def test_a_server_that_was_never_there_is_not_waited_for(tmp_path: Path) -> None:
    with server([GATEWAY]) as script:
        ended = watched(script.url, tmp_path)
    assert (ended.returncode, ended.stderr) == (4, "compute: the server answers 502 Bad Gateway\n")
    assert len(script.asked) == 3


def test_nobody_at_the_address_is_exit_code_3(tmp_path: Path) -> None:
    ended = watched("http://127.0.0.1:9", tmp_path)
    assert ended.returncode == 3
    assert ended.stderr.startswith("compute: http://127.0.0.1:9 cannot be reached: ")


COMMANDS = [
    ["generate", "a hat"],
    ["task", "show", str(ID)],
    ["task", "wait", str(ID)],
    ["task", "list"],
    ["task", "submit", "GENERATION", "-s", "prompt=a hat"],
    ["train", "show", str(ID)],
    ["train", "wait", str(ID)],
    ["workflow", "watch", str(ID)],
    ["workflow", "show", str(ID)],
    ["workflow", "cancel", str(ID)],
    ["workflow", "run", str(ROOT / "examples" / "product-to-model.yaml")],
    ["queues"],
]
OBJECTS = (["queues"], ["workers"], ["stats"], ["evaluate", "uploads/a.png"], ["lora", "delete", "style/a.safetensors"])
"""Whose answers may lack every field."""
BODILESS = ["task", "delete"]
"""Whose answer is its status alone."""
STRANGE = [
    ((200, "<html>Sign in</html>"), 1),
    ((200, "null"), 1),
    ((302, ""), 1),
    ((401, "<html>Unauthorized</html>"), 6),
    ((403, '{"detail": "This key may only read.", "code": "FORBIDDEN"}'), 6),
    ((404, '{"message": "no Route matched"}'), 5),
    ((422, '{"detail": [{"loc": ["body", "x"], "msg": "\\u001b[2Jno", "type": "y"}]}'), 1),
    ((502, "<html>Bad Gateway</html>"), 4),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: "-".join(words[:2]))
def test_whatever_a_server_answers_a_command_says_one_thing_and_exits_with_a_code(
    tmp_path: Path, command: list[str]
) -> None:
    for answer, code in STRANGE:
        with server([answer]) as script:
            line = [*command, "--url", script.url, "--key", "key"]
            ended = CliRunner().invoke(app, line, env={"COMPUTE_HOME": str(tmp_path)})
        assert (ended.exit_code, ended.stdout) == (code, ""), answer
        assert ended.stderr.startswith("compute: "), answer
        assert (ended.stderr.count("\n"), "\x1b" in ended.stderr) == (1, False), answer


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((200, "<html>Sign in</html>"), 1),
        ((200, "null"), 1),
        ((200, "[1]"), 1),
        ((200, "{}"), 1),
        ((401, "<html>Unauthorized</html>"), 6),
        ((409, '{"detail": "It is \\u001b[2Jthere already.", "code": "CONFLICT"}'), 1),
    ],
    ids=str,
)
def test_every_command_says_one_thing_of_an_answer_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str], code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    with server([answer]) as script:
        for line in asking(tmp_path):
            if line[0] == "doctor" or (code == 1 and line[:2] == BODILESS) or (answer[1] == "{}" and line in OBJECTS):
                continue
            ended = CliRunner().invoke(app, [*line, "--url", script.url, "--key", "key"])
            assert (ended.exit_code, ended.stdout) == (code, ""), (line, ended.output, ended.exc_info)
            # Before it begins, this one says how to go on.
            said = ended.stderr.partition("\n")[2] if line[0] == "bulk" else ended.stderr
            assert said.startswith("compute: "), line
            assert (said.count("\n"), "\x1b" in said) == (1, False), (line, said)


def test_a_failure_of_the_server_is_told_with_the_id_of_the_request(tmp_path: Path) -> None:
    with server([(500, json.dumps({"detail": "It failed.", "code": "INTERNAL"}))]) as script:
        script.headers["X-Request-Id"] = "req-1"
        line = ["task", "list", "--url", script.url, "--key", "key"]
        ended = CliRunner().invoke(app, line, env={"COMPUTE_HOME": str(tmp_path)})
    assert (ended.exit_code, ended.stderr) == (1, "compute: It failed. (request req-1)\n")


@pytest.mark.parametrize(
    "setting", [("COMPUTE_RETENTION_DAYS", "x"), ("ADMIN_API_KEY", "the-key-of-everybody-12")], ids=lambda one: one[0]
)
def test_a_bad_setting_of_a_server_on_this_machine_does_not_stop_who_asks_another(
    tmp_path: Path, setting: tuple[str, str]
) -> None:
    environment = {"COMPUTE_HOME": str(tmp_path), "API_KEY": "the-key-of-everybody-12"} | dict([setting])
    with server([(200, "[]")]) as script:
        ended = CliRunner().invoke(app, ["task", "list", "--url", script.url], env=environment)
        here = CliRunner().invoke(app, ["task", "list"], env=environment)
    assert (ended.exit_code, len(script.asked)) == (0, 1), ended.output
    assert (here.exit_code, here.stderr.startswith("compute: bad setting: ")) == (1, True)


@pytest.mark.parametrize("code", ["KEY_EXPIRED", "KEY_REVOKED"])
def test_what_became_of_a_key_is_told(tmp_path: Path, code: str) -> None:
    said = json.dumps({"detail": "The key is over.", "code": code})
    with server([(401, said)]) as script:
        ended = CliRunner().invoke(
            app,
            ["keys", "list", "--url", script.url],
            env={"COMPUTE_HOME": str(tmp_path), "ADMIN_API_KEY": "a-key-of-the-administrator-12"},
        )
    told = f"compute: {script.url} refuses the key that came from ADMIN_API_KEY: The key is over.\n"
    assert (ended.exit_code, ended.stderr) == (6, told)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["keys", "create", "x", "--expires", "999999w"], 2),
        (["bulk", "-", "--key-prefix", "größe"], 2),
        (["bulk", "-", "--out", "here"], 2),
        (["task", "submit", "GENERATION", "-s", "prompt=\udcff"], 1),
        (["generate", "\udcff"], 1),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_sent_are_refused_in_words(tmp_path: Path, words: list[str], code: int) -> None:
    with server([(200, "{}")]) as script:
        line = [*words, "--url", script.url, "--key", "key"]
        ended = CliRunner().invoke(app, line, env={"COMPUTE_HOME": str(tmp_path)}, input="{}\n")
    assert (ended.exit_code, ended.stdout, script.asked) == (code, "", [])
    assert isinstance(ended.exception, SystemExit), ended.exc_info


@pytest.mark.parametrize("words", [["create", "Shop"], ["rotate", str(ID)]], ids=lambda words: words[0])
def test_a_secret_that_was_lost_with_its_answer_is_told_of(tmp_path: Path, words: list[str]) -> None:
    made = json.dumps({"id": str(ID), "name": "Shop", "prefix": "ck_1", "scope": "submit", "key": None})
    with server([GATEWAY, (201, made)]) as script:
        asked = ["keys", *words, "--url", script.url, "--key", "a-key-of-the-administrator-12"]
        ended = CliRunner().invoke(app, asked, env={"COMPUTE_HOME": str(tmp_path)})
    assert (ended.exit_code, ended.stdout, len(script.asked)) == (1, "", 2)
    assert f"the secret of the API key {ID} was lost: rotate the key, or revoke it" in ended.stderr


ANY_FIELDS = ("created_at", "progress", "status", "errors", "metadata", "result_image_paths", "metrics", "file_size")


@pytest.mark.parametrize("odd", ["a word of tomorrow", 7, ["a"], {"a": 1}], ids=str)
def test_no_command_stumbles_over_a_word_of_tomorrow(tmp_path: Path, odd: object) -> None:
    one = {"id": str(ID), "task_type": "GENERATION", "output_name": "zx", "partial_path": "a"}
    one |= dict.fromkeys(ANY_FIELDS, odd)
    lists = {"task": [one], "train": {"tasks": [one]}, "lora": {"loras": [one]}}
    asked = [(["task", "show", str(ID)], one), (["task", "cancel", str(ID)], one), (["train", "show", str(ID)], one)]
    with server([(200, "{}")]) as script:
        for words, body in [*asked, *(([word, "list"], body) for word, body in lists.items())]:
            script.answers = [(200, json.dumps(body))]
            line = [*words, "--url", script.url, "--key", "key"]
            ended = CliRunner().invoke(app, line, env={"COMPUTE_HOME": str(tmp_path)})
            assert ended.exit_code == 0, (words, ended.output, ended.exc_info)
