"""The folder of what does not last."""

import os
from pathlib import Path

import pytest

from compute.stack.cluster.runtime import (
    KEPT_SESSIONS,
    discard_if_empty,
    prune_sessions,
    ray_folder,
    runtime_folder,
    runtime_path,
)
from compute.stack.errors import StackError


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_one_private_folder_per_home(tmp_path: Path) -> None:
    first, second = runtime_folder(tmp_path / "a"), runtime_folder(tmp_path / "b")
    assert first != second
    assert first.parent == tmp_path
    assert first.stat().st_mode & 0o777 == 0o700
    assert runtime_folder(tmp_path / "a") == first


def test_a_start_that_came_to_nothing_leaves_nothing(tmp_path: Path) -> None:
    folder = runtime_folder(tmp_path / "a")
    discard_if_empty(folder)
    assert not runtime_path(tmp_path / "a").exists()
    discard_if_empty(folder)
    (runtime_folder(tmp_path / "a") / "session_1").mkdir()
    discard_if_empty(folder)
    assert folder.exists()


def test_a_trap_laid_by_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = runtime_folder(tmp_path / "a")
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StackError, match="belongs to another user"):
        runtime_folder(tmp_path / "a")


def test_rays_sockets_fit_into_a_socket_address() -> None:
    home = Path("/home/somebody/projects/compute/.compute")
    folder = ray_folder(Path("/tmp") / runtime_path(home).name)  # noqa: S108
    assert len(f"{folder}/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store") < 108


def test_old_sessions_go_and_the_last_ones_stay(tmp_path: Path) -> None:
    ray = ray_folder(tmp_path)
    earlier = [tmp_path / f"session_0{number}" for number in range(2)]
    sessions = [*earlier, *(ray / f"session_{number}" for number in range(KEPT_SESSIONS))]
    for age, session in enumerate(sessions):
        (session / "logs").mkdir(parents=True)
        os.utime(session, (1_000_000 + age, 1_000_000 + age))
    (tmp_path / "h").mkdir()
    (ray / "session_latest").symlink_to(sessions[-1])
    prune_sessions(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "h", ray])
    assert sorted(ray.iterdir()) == sorted([*sessions[2:], ray / "session_latest"])
