"""The package without the extra `server`: small, and enough for the client and the commands that speak to a server."""

import re
from pathlib import Path

import pytest

from tests.unit.client.small_install import COMMAND, PREPARED, missing, run, small

MOST_MB = 40
NOWHERE = ["--url", "http://127.0.0.1:9", "--key", "key"]
SERVING = [
    ["up"],
    ["down"],
    ["db", "migrate"],
    ["openapi"],
    ["models", "build-tiny", "models"],
]


def test_what_serves_is_no_part_of_it() -> None:
    assert {"fastapi", "psycopg", "ray", "sqlalchemy", "torch"} <= set(missing())
    assert {"httpx", "pydantic", "typer"}.isdisjoint(missing())


def test_it_is_small() -> None:
    from importlib.metadata import files

    sizes = {
        name: sum(path.stat().st_size for one in files(name) or () if (path := Path(str(one.locate()))).is_file())
        for name in small() - {"compute"}
    }
    assert sum(sizes.values()) < MOST_MB * 1_000_000, sizes


def test_the_client_needs_no_more(tmp_path: Path) -> None:
    code = PREPARED + (
        "from compute.client import AsyncCompute, Compute, NoAnswer, RetryPolicy, Task, verify_webhook\n"
        "from compute.client.common.reading import task_of\n"
        "assert task_of({'status': 'COMPLETED'}).ended\n"
        "try:\n"
        "    Compute('http://127.0.0.1:9', 'key', retry=RetryPolicy(tries=1)).tasks.submit(prompt='a hat')\n"
        "except NoAnswer as error:\n"
        "    print(error.failure)\n"
    )
    ended = run(code, [], tmp_path)
    assert (ended.stdout, ended.stderr) == ("NEVER_DELIVERED\n", "")


@pytest.mark.parametrize(
    "command", [["generate", "a hat", *NOWHERE], ["workflow", "show", "1", *NOWHERE]], ids=lambda words: words[0]
)
def test_commands_that_speak_to_a_server_need_no_more(command: list[str], tmp_path: Path) -> None:
    ended = run(COMMAND, command, tmp_path)
    assert ended.returncode == 3
    assert ended.stderr.startswith("compute: http://127.0.0.1:9 cannot be reached")


@pytest.mark.parametrize("command", SERVING, ids=" ".join)
def test_commands_of_a_server_say_what_to_install(command: list[str], tmp_path: Path) -> None:
    ended = run(COMMAND, command, tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(r"compute: this command needs the package \w+; .* pip install '\.\[server\]'\n", ended.stderr)


def test_the_version_is_printed(tmp_path: Path) -> None:
    assert run(COMMAND, ["version"], tmp_path).returncode == 0
