"""`compute doctor` on homes, configurations, machines and stacks that are wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from compute.stack.lock import HomeLock
from compute.stack.mark import MARK
from tests.integration.cli.doctor.conftest import SOUND_KEY, SetUp, answering, taken_port
from tests.patience import PATIENCE

METADATA = """Metadata-Version: 2.1
Name: compute
Version: 0.1.0
Requires-Python: >=3.99
Requires-Dist: no-such-package-of-the-tests
Requires-Dist: rich>999
Requires-Dist: numpy; extra == "other"
"""


def test_a_sound_set_up_has_no_findings(sound: SetUp, database_url: str) -> None:
    sound.set(DATABASE_URL=database_url)
    answer = sound.doctor()
    assert answer.findings == {}
    assert answer.exit_code == 0
    assert len(answer.checks) >= 20
    assert {name for name, one in answer.checks.items() if one["state"] == "skipped"} == {"ray", "cluster", "server"}


def holding(name: str, content: bytes, home: Path) -> None:
    """Write a secret of the home, closed to others."""
    (home / name).write_bytes(content)
    (home / name).chmod(0o600)


def opened(secret: Path) -> None:
    """Make a file that others may read, whatever the umask is."""
    secret.touch()
    secret.chmod(0o644)


@pytest.mark.parametrize(
    ("change", "code", "advice"),
    [
        (lambda home: home.chmod(0o750), "home.open", "chmod go="),
        (lambda home: home.chmod(0o1777), "home.shared", "export COMPUTE_HOME="),
        (lambda home: (home.rmdir(), home.write_text("file")), "home.unmakeable", "Name one that you may make"),
        *(
            (partial(holding, name, content), f"secret-files.{name.replace('_', '-')}", "Remove the file")
            for name in ("api_key", "admin_api_key", "link_secret", "webhook_secret")
            for content in (b"weak", b"\n", b"", b"\xff" * 40)
        ),
        (lambda home: (home / "webhook_secret").mkdir(mode=0o700), "secret-files.webhook-secret", "Move it away"),
        (lambda home: opened(home / "ray_token"), "secret-files.open", "chmod 600"),
        (lambda home: (home / "supervisor.lock").write_text("{}"), "leftovers.lock", "start it again"),
    ],
)
def test_a_home_that_is_wrong_is_found(sound: SetUp, change: Callable[[Path], object], code: str, advice: str) -> None:
    change(sound.home)
    found = sound.doctor("home", "secret-files", "leftovers").findings
    assert list(found) == [code], found
    assert advice in found[code]["advice"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_home_of_another_user_is_found(sound: SetUp) -> None:
    os.chown(sound.home, 12345, 12345)
    assert "sudo -u" in sound.doctor("home").findings["home.owner"]["advice"]


def test_a_full_disk_is_found(sound: SetUp, small_disk: Path) -> None:
    sound.set(COMPUTE_HOME=str(small_disk / "home"))
    assert "recover-from-a-full-disk" in sound.doctor("disk").findings["disk.full"]["advice"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_home_that_is_mounted_for_reading_alone_is_found(sound: SetUp, small_disk: Path) -> None:
    small_disk.chmod(0o700)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)  # noqa: S603, S607
    sound.set(COMPUTE_HOME=str(small_disk))
    assert "Mount it for writing" in sound.doctor("home").findings["home.unwritable"]["advice"]


def test_processes_of_a_killed_stack_are_found(sound: SetUp) -> None:
    left = subprocess.Popen(["sleep", "600"], env=os.environ | {MARK: str(sound.home)})  # noqa: S607
    try:
        found = sound.doctor("leftovers").findings["leftovers.processes"]
    finally:
        left.kill()
        left.wait()
    assert str(left.pid) in found["problem"]
    assert "down" in found["advice"]


@pytest.mark.parametrize(
    ("old", "new", "code", "advice"),
    [
        ("  - name: compute", "  - nme: compute", "serve-config.invalid", "its keys are in"),
        ("standby: 0", "standbys: 0", "serve-config.invalid", "its keys are in"),
        ("queue: image ", "queue: pictures ", "queues.unserved", "queue: image"),
        ("gpus_per_replica: 0", "gpus_per_replica: 1", "gpus.few", "0 runs on the CPU"),
        ("device: auto", "device: cuda", "gpus.none", "device: auto"),
        ("model: demo-flux", "model: my-flux", "models.missing", "name a folder that is there"),
        ("model: demo-flux", "model: /models/my/flux", "models.missing", "name a folder that is there"),
    ],
)
def test_a_configuration_that_is_wrong_is_found(sound: SetUp, old: str, new: str, code: str, advice: str) -> None:
    sound.set(CUDA_VISIBLE_DEVICES="")
    sound.config.write_text(sound.config.read_text().replace(old, new, 1))
    checks = ["serve-config"] if code == "serve-config.invalid" else ["queues", "gpus", "models"]
    found = sound.doctor(*checks).findings
    assert list(found) == [code], found
    assert advice in found[code]["advice"]


def test_a_folder_without_a_configuration_is_no_fault_but_one_that_was_named_is(
    sound: SetUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sound.home)
    sound.config = Path("serve_config.yaml")
    answer = sound.doctor("serve-config", "queues", "models", "gpus")
    assert (answer.exit_code, list(answer.findings)) == (0, ["serve-config.missing"])
    sound.config = tmp_path / "lost.yaml"
    assert list(sound.doctor("serve-config").findings) == ["serve-config.invalid"]


def test_a_training_model_that_is_missing_is_found(sound: SetUp) -> None:
    sound.set(COMPUTE_TRAINING_MODELS=json.dumps({"default": {"model": "lost-model"}}))
    assert "COMPUTE_TRAINING_MODELS, default" in sound.doctor("models").findings["models.missing"]["problem"]


@pytest.mark.parametrize(
    ("says", "code"),
    [("NVIDIA-SMI 550  CUDA Version: 99.0", "gpus.cpu-torch"), ("", "gpus.cpu-torch")],
)
def test_a_pytorch_for_cpus_on_a_machine_with_a_gpu_is_found(
    sound: SetUp, tmp_path: Path, says: str, code: str
) -> None:
    """The GPU is a program in the place of nvidia-smi, which says what NVIDIA's says."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$1" = -L ] && echo "GPU 0: NVIDIA H200" || echo "{says}"\n')
    program.chmod(0o755)
    sound.monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    sound.set(PATH=f"{program.parent}:{os.environ['PATH']}")
    sound.config.write_text(sound.config.read_text().replace("gpus_per_replica: 0", "gpus_per_replica: 1", 1))
    assert code in sound.doctor("gpus").findings


def doctor(*only: str, before: str = "", **environment: str) -> dict[str, Any]:
    """The command in a process of its own, after some lines of shell; its findings by code."""
    command = f"{before} exec {sys.executable} -m compute.cli doctor --json {' '.join(f'--only {one}' for one in only)}"
    answer = subprocess.run(  # noqa: S603
        ["sh", "-c", command],  # noqa: S607
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    return {one["code"]: one for check in json.loads(answer.stdout)["checks"] for one in check["findings"]}


def test_a_wrong_python_and_missing_packages_are_found(sound: SetUp, tmp_path: Path) -> None:
    installed = tmp_path / "site" / "compute-0.1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(METADATA)
    # Elsewhere than where the project's own metadata may lie.
    found = doctor(
        "python",
        "packages",
        before=f"cd {tmp_path} &&",
        PYTHONPATH=f"{installed.parent}:{os.environ.get('PYTHONPATH', '')}",
    )
    assert set(found) == {"python.version", "packages.missing", "packages.version"}
    assert "virtual environment" in found["python.version"]["advice"]
    assert found["packages.missing"]["advice"].startswith("pip install 'no-such-package-of-the-tests'")
    assert "pip install 'rich>999'" in found["packages.version"]["advice"]


def test_too_few_open_files_are_found(sound: SetUp) -> None:
    assert "ulimit -n 65536" in doctor("open-files", before="ulimit -S -n 512;")["open-files.few"]["advice"]
    hard = doctor("open-files", before="ulimit -n 512;")["open-files.few"]["advice"]
    assert "LimitNOFILE" in hard


@contextmanager
def running(home: Path, **facts: str) -> Iterator[None]:
    """A supervisor that has this home."""
    lock = HomeLock(home)
    lock.acquire()
    lock.publish({"pid": os.getpid(), **facts})
    try:
        yield
    finally:
        lock.release()


def api(headers: dict[str, str]) -> tuple[int, Any]:
    return (200, []) if headers.get("authorization") == f"Bearer {SOUND_KEY}" else (401, {"detail": "no"})


READY = (200, {"status": "ready", "checks": {}})


def test_a_server_that_is_not_ready_or_knows_another_key_is_found(sound: SetUp) -> None:
    routes = {"/health": lambda _: READY, "/api/v1/tasks/generation": api}
    with answering(routes) as url:
        sound.set(COMPUTE_URL=url)
        assert sound.doctor("server").findings == {}
        sound.set(API_KEY="another-key-that-is-long-enough")
        assert "export API_KEY=" in sound.doctor("server").findings["server.key"]["advice"]
        sound.monkeypatch.delenv("API_KEY")
        assert "export API_KEY=" in sound.doctor("server").findings["server.no-key"]["advice"]
        sound.set(API_KEY=SOUND_KEY)
        routes["/health"] = lambda _: (503, {"status": "not ready", "checks": {"pool Flux": "no replica"}})
        found = sound.doctor("server").findings["server.not-ready"]
        assert "pool Flux (no replica)" in found["problem"]
        routes["/health"] = lambda _: (200, "Welcome")
        assert "Correct COMPUTE_URL" in sound.doctor("server").findings["server.foreign"]["advice"]


def test_a_cluster_that_refuses_us_or_lacks_gpus_is_found(sound: SetUp) -> None:
    import ray

    token = "token-of-the-tests"
    nodes = [{"state": "ALIVE", "resources_total": {"CPU": 4}}, {"state": "DEAD", "resources_total": {"GPU": 8}}]
    says = {"ray_version": ray.__version__}

    def guarded(body: Any) -> Callable[[dict[str, str]], tuple[int, Any]]:
        return lambda headers: (200, body) if headers.get("authorization") == f"Bearer {token}" else (401, "no")

    routes = {
        "/api/version": guarded(says),
        "/api/v0/nodes": guarded({"data": {"result": {"result": nodes}}}),
    }
    with answering(routes) as dashboard, running(sound.home, dashboard_url=dashboard, url="http://127.0.0.1:1"):
        found = sound.doctor("ray").findings["ray.token"]
        assert "there is no token" in found["problem"]
        (sound.home / "ray_token").write_text("stale")
        assert "refuses the token" in sound.doctor("ray").findings["ray.token"]["problem"]
        (sound.home / "ray_token").write_text(token)
        assert sound.doctor("ray", "cluster").findings == {}
        says["ray_version"] = "2.9.0"
        assert "ray[default,serve,train]==2.9.0" in sound.doctor("ray").findings["ray.version"]["advice"]
        sound.config.write_text(sound.config.read_text().replace("gpus_per_replica: 0", "gpus_per_replica: 2", 1))
        found = sound.doctor("cluster").findings["cluster.gpus"]
        assert "reserves 2 GPUs, and the cluster of 1 nodes has 0" in found["problem"]
    with taken_port() as silent, running(sound.home, dashboard_url=f"http://127.0.0.1:{silent}"):
        assert "does not answer" in sound.doctor("ray").findings["ray.away"]["problem"]


def test_the_text_says_what_to_do_and_ends_with_a_count(sound: SetUp) -> None:
    from typer.testing import CliRunner

    from compute.cli import app

    sound.home.chmod(0o755)
    sound.set(API_KEY="weak")
    answer = CliRunner().invoke(app, ["doctor", "--only", "settings", "--only", "home", "--only", "disk"])
    assert answer.exit_code == 1
    assert "✗ settings" in answer.output
    assert "    → Close it: chmod go= " in answer.output
    assert "✓ disk" in answer.output
    assert answer.output.rstrip().endswith("1 broken, 1 to look at.")


def test_a_check_that_is_none_is_refused(sound: SetUp) -> None:
    from typer.testing import CliRunner

    from compute.cli import app

    answer = CliRunner().invoke(app, ["doctor", "--only", "everything"])
    assert answer.exit_code == 2
    assert "`everything` is none of" in answer.output
