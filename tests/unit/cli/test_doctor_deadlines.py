"""Checks that hang, are late or meet folders that are closed."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from compute.cli.doctor.findings import Finding, Level, Setup
from compute.cli.doctor.registry import Check, all_checks, examine
from compute.cli.doctor.setup import read_setup
from tests.patience import PATIENCE

HANGING = """
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from compute.cli.doctor import command, registry
from compute.cli.doctor.registry import Check

def hang(_):
    # In a pool, whose threads Python joins when it ends.
    ThreadPoolExecutor().submit(time.sleep, 3600).result()
    yield

registry.all_checks = command.all_checks = lambda: (Check("hangs", "it does not", 0.2, hang, {asks}),)
command.diagnose(Path("serve_config.yaml"), [], None, None, as_json=True)
"""
CLOSED = """
import json, os, sys
from pathlib import Path
from compute.cli.doctor.registry import all_checks, examine
from compute.cli.doctor.setup import read_setup

checks = [one for one in all_checks() if one.name in sys.argv[1:]]
examine(read_setup(Path("serve_config.yaml"), None, None), checks)  # what is imported later is imported now
os.setgroups([])
os.setegid(65534)
os.seteuid(65534)
results = examine(read_setup(Path("serve_config.yaml"), None, None), checks)
found = {one.code: one.problem for result in results for one in result.findings}
print(json.dumps({"found": found, "skipped": [one.check.name for one in results if one.skipped]}))
"""
OF_THE_HOME = ("home", "disk", "secret-files", "leftovers", "objects", "models", "database", "ray")


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setenv("COMPUTE_HOME", str(tmp_path))
    return read_setup(Path("serve_config.yaml"), None, None)


def python(code: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, *words],
        cwd="/",
        env={**os.environ, "COMPUTE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize(("asks", "code"), [(True, 1), (False, 0)])
def test_a_check_that_hangs_in_a_pool_of_threads_keeps_nobody(tmp_path: Path, asks: bool, code: int) -> None:
    ended = python(HANGING.replace("{asks}", str(asks)), tmp_path)
    assert ended.returncode == code, ended.stderr
    [check] = json.loads(ended.stdout)["checks"]
    assert check["findings"][0]["code"] == "hangs.late"


def test_only_a_check_that_asks_others_is_broken_when_it_is_late(setup: Setup) -> None:
    hold = threading.Event()

    def hang(_: Setup) -> Iterator[Finding]:
        hold.wait(PATIENCE)
        yield from ()

    try:
        results = examine(setup, [Check(str(asks), "", 0.05, hang, asks) for asks in (True, False)])
    finally:
        hold.set()
    assert [result.state for result in results] == ["broken", "warning"]


def test_no_check_is_late_because_the_machine_is_busy() -> None:
    """Local ones have a minute, and those that ask others have more than the deadlines of what they ask with."""
    assert {(one.asks, one.seconds) for one in all_checks()} == {(True, 30.0), (False, 60.0)}
    assert {one.name for one in all_checks() if one.asks} == {
        "database",
        "pooler",
        "objects",
        "ray",
        "cluster",
        "server",
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("where", ["below", "itself"])
def test_a_home_that_this_user_cannot_look_into_is_one_finding(where: str) -> None:
    # Not in the folder of the test, which nobody else may enter.
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        closed = Path(folder) / "closed"
        home = closed / "home" if where == "below" else closed
        home.mkdir(parents=True)
        closed.chmod(0o700)
        (home / "api_key").write_text("a-key-of-another-user-0123")
        ended = python(CLOSED, home, *OF_THE_HOME)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert "Permission denied" in told["found"].pop("home.unreachable")
    assert [code for code in told["found"] if code.endswith((".failed", ".closed", ".late"))] == []
    assert {"secret-files", "leftovers"} <= set(told["skipped"])


def test_a_file_that_is_closed_is_told_with_its_name(setup: Setup) -> None:
    def refuse(_: Setup) -> Iterator[Finding]:
        raise PermissionError(13, "Permission denied", "/etc/some/file")
        yield

    [result] = examine(setup, [Check("own", "", 10, refuse)])
    assert [(one.code, one.level) for one in result.findings] == [("own.closed", Level.BROKEN)]
    assert "/etc/some/file" in result.findings[0].problem
