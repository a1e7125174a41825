"""The printed welcome: it leads to a picture by pasting, wherever the server and its key are, without a secret."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from compute.stack.lock import HomeLock
from compute.stack.messages.hints import own_command, pasteable
from compute.stack.messages.welcome import first_image_by_curl, welcome
from compute.stack.secrets.api_key import key_file, reading_line, stored_key
from compute.tasks.types.generation import CreateGenerationTask

KEYS = ["sk-plain", 'it\'s $(touch gone) `x` \\ "quoted" & ; | * ~ #!', "$'\\x41'"]
HOMES = ["home", "a folder with spaces", "it's $HOME"]


def pasted(lines: list[str], folder: Path) -> str:
    """What bash prints for these lines, in an environment that has none of our variables."""
    bare = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    command = ["bash", "-euo", "pipefail", "-c", "\n".join(lines)]
    ran = subprocess.run(command, cwd=folder, env=bare, capture_output=True, text=True, check=False)  # noqa: S603
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("key", KEYS)
def test_the_line_that_reads_a_kept_key_reads_any_key_in_any_folder(tmp_path: Path, home: str, key: str) -> None:
    folder = tmp_path / home
    folder.mkdir()
    (folder / "api_key").write_text(f"{key}\n")
    assert pasted([reading_line(key_file({}, folder)), 'printf %s "$API_KEY"'], tmp_path) == key
    assert stored_key(folder) == key


def test_a_key_that_the_operator_gave_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "API_KEY").write_text("sk-1\n")
    given = {"COMPUTE_SECRETS": str(tmp_path)}
    file = key_file(given, tmp_path / "home")
    assert file == tmp_path / "API_KEY"
    assert key_file(given, tmp_path / "home", "admin_api_key") == tmp_path / "home" / "admin_api_key"
    assert pasted([reading_line(file), 'printf %s "$API_KEY"'], tmp_path) == "sk-1"


def test_the_curl_lines_ask_for_a_valid_task_at_this_server() -> None:
    lines = first_image_by_curl("http://127.0.0.1:9000", Path("/home/api_key"), "first.png")
    assert "API=http://127.0.0.1:9000/api/v1" in lines
    (request,) = [line for line in lines if "tasks/generation" in line]
    words = shlex.split(request.removeprefix("TASK=$("))
    CreateGenerationTask.model_validate(json.loads(words[words.index("-d") + 1]))
    assert lines[-1].endswith("-o first.png")


@pytest.mark.parametrize("home", HOMES)
def test_own_commands_paste_in_another_folder_with_any_home(tmp_path: Path, home: str) -> None:
    folder = tmp_path / home
    shown = pasted([own_command("status", "--json", home=folder) + " || [ $? = 3 ]"], tmp_path)
    assert json.loads(shown) == {"running": False, "missing": None}


@pytest.mark.parametrize("name", ["compute", "my folder/compute", "it's/compute"])
def test_own_commands_name_the_program_that_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name])
    assert shlex.split(own_command("workflow", "watch", "x")) == [str(tmp_path / name), "workflow", "watch", "x"]


@pytest.mark.parametrize("word", ["plain", "two words", "it's", "\x1b[2J", "a\nb'\\", "é\u202e", ""])
def test_any_word_arrives_and_none_steers_the_terminal(tmp_path: Path, word: str) -> None:
    line = pasteable(["printf", "%s", word])
    assert line.isprintable()
    assert pasted([line], tmp_path) == word


def test_everything_the_operator_needs_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "ray_token"))
    secrets = {"api_key": "sk-not-to-be-seen", "admin_api_key": "sk-at-all", "ray_token": "token-not-to-be-seen"}
    variables = {"api_key": "API_KEY", "admin_api_key": "ADMIN_API_KEY", "ray_token": "RAY_AUTH_TOKEN"}
    for name, secret in secrets.items():
        (tmp_path / name).write_text(f"{secret}\n")
        monkeypatch.setenv(variables[name], secret)
    files = {name: str(tmp_path / name) for name in ("api_key", "admin_api_key")}
    addresses = {"url": "http://127.0.0.1:8000", "dashboard_url": "http://127.0.0.1:8265", "logs": "/var/log/x"}
    text = welcome({"pid": 1, **addresses, **files}, tmp_path, 12.3)
    for part in ("http://127.0.0.1:8000/api/v1", *files.values(), *addresses.values(), "ray_token", "12 s"):
        assert part in text
    assert "picture.png" in text
    assert not [name for name, secret in secrets.items() if secret in text]


def test_a_home_in_which_nothing_runs_has_the_key_that_lies_there(tmp_path: Path) -> None:
    assert stored_key(tmp_path) is None
    lock = HomeLock(tmp_path)
    lock.acquire()
    lock.publish({"pid": os.getpid(), "api_key": str(tmp_path / "api_key")})
    (tmp_path / "api_key").write_text("sk-1\n")
    assert stored_key(tmp_path) == "sk-1"
    lock.release()
