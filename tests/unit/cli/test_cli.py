"""The command line: exit codes, one-line errors, a quick --help."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compute import __version__


def compute(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "compute.cli", *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)  # noqa: S603


def test_version_and_help() -> None:
    assert compute("version").stdout.strip() == __version__
    helped = compute("--help")
    assert helped.returncode == 0
    for command in ("up", "down", "status", "models", "db", "openapi"):
        assert command in helped.stdout


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, compute.cli; print(sorted({'ray', 'torch', 'fastapi', 'sqlalchemy'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert answer.stdout.strip() == "[]"


def test_nothing_runs_in_a_fresh_home(tmp_path: Path) -> None:
    status = compute("status", COMPUTE_HOME=str(tmp_path))
    assert (status.returncode, status.stdout) == (3, "not running\n")
    down = compute("down", COMPUTE_HOME=str(tmp_path))
    assert (down.returncode, down.stdout) == (0, "not running\n")


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["up"], {"COMPUTE_LEASE_SECONDS": "soon"}, "bad setting: COMPUTE_LEASE_SECONDS: "),
        (["up", "--config", "missing.yaml"], {}, "missing.yaml cannot be read: No such file or directory"),
        (["down"], {"COMPUTE_LINK_TTL_SECONDS": "1"}, "bad setting: COMPUTE_LINK_TTL_SECONDS: "),
        (["db", "migrate"], {"DATABASE_URL": "mysql://localhost/x"}, "the database cannot be used: "),
        (["db", "status"], {}, "DATABASE_URL is not set, and there is no database in "),
        (
            ["db", "migrate"],
            {"DATABASE_URL": "postgresql://localhost/x", "COMPUTE_DATABASE_POOLED": "true"},
            "DATABASE_URL leads to a PgBouncer: set COMPUTE_DATABASE_DIRECT_URL to the server behind it",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    failed = compute(*arguments, COMPUTE_HOME=str(tmp_path), **environment)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"compute: {said}")
    assert failed.stderr.count("\n") == 1


def test_the_openapi_document_is_printed() -> None:
    printed = compute("openapi")
    assert printed.returncode == 0
    assert "/api/v1/tasks/generation" in json.loads(printed.stdout)["paths"]


def test_a_short_key_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    refused = compute("up", "--config", "missing.yaml", COMPUTE_HOME=str(tmp_path / "home"), API_KEY="short-key")
    assert refused.returncode == 1
    assert refused.stderr == (
        "compute: bad setting: API_KEY: "
        "must have at least 16 characters, all visible ASCII: no spaces, no line breaks\n"
    )
    assert not (tmp_path / "home").exists()
