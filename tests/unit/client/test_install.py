"""The package without the extra `server`: small, and enough for the client and the commands that speak to a server."""

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.unit.architecture.test_constraints import brought, requirements_of

MOST_MB = 40
SMALL = {canonicalize_name(name) for name, _ in brought(requirements_of())} | {"compute"}
MISSING = sorted(
    name
    for name, distributions in packages_distributions().items()
    if SMALL.isdisjoint(canonicalize_name(one) for one in distributions)
)
"""The modules of everything else that is installed here."""
RUN = """
import json, sys

class Missing:
    names = set(json.loads(sys.argv.pop(1)))

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
COMMAND = RUN + "from compute.cli import app; app(sys.argv[1:])"
NOWHERE = ["--url", "http://127.0.0.1:9", "--key", "key"]
SERVING = [
    ["up"],
    ["down"],
    ["db", "migrate"],
    ["openapi"],
    ["models", "build-tiny", "models"],
]


def run(code: str, arguments: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    """Run Python as if only the small part of the packages was installed."""
    command = [sys.executable, "-c", code, json.dumps(MISSING), *arguments]
    environment = {"PATH": "/usr/bin:/bin", "COMPUTE_HOME": str(home), "PYTHONPATH": ":".join(sys.path)}
    environment["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:9/none"
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


def test_what_serves_is_no_part_of_it() -> None:
    assert {"fastapi", "psycopg", "ray", "sqlalchemy", "torch"} <= set(MISSING)
    assert {"httpx", "pydantic", "typer"}.isdisjoint(MISSING)


def test_it_is_small() -> None:
    from importlib.metadata import files

    sizes = {
        name: sum(path.stat().st_size for one in files(name) or () if (path := Path(str(one.locate()))).is_file())
        for name in SMALL - {"compute"}
    }
    assert sum(sizes.values()) < MOST_MB * 1_000_000, sizes


def test_the_client_needs_no_more(tmp_path: Path) -> None:
    code = RUN + (
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
    assert re.fullmatch(
        r"compute: this command needs the package \w+; .* pip install 'compute\[server\]'\n", ended.stderr
    )


def test_the_version_is_printed(tmp_path: Path) -> None:
    assert run(COMMAND, ["version"], tmp_path).returncode == 0
