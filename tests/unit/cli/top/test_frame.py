"""Frames of `compute top`: within the terminal, the most important rows first, whatever a server says."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from compute.cli.top.frame import Frame, rows_for
from compute.cli.top.snapshot import Snapshot


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def queue(name: str, depth: int = 0, workers: int = 1) -> dict[str, Any]:
    return {
        "name": name,
        "depth": depth,
        "reserved_tasks": 1,
        "active_tasks": 2,
        "active_workers": workers,
        "avg_wait_time_ms": 1500.0,
        "oldest_waiting_seconds": 75.0,
        "tasks_completed_last_hour": 1234,
        "tasks_failed_last_hour": 1,
    }


def task(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"task-{number:08}", "task_type": "GENERATION", "progress": 42.0, "started_at": ago(number)} | more


def snapshot(queues: int = 2, running: int = 3, failed: int = 2) -> Snapshot:
    worker = {
        "name": "Flux-3f2a@host1",
        "active_tasks": 1,
        "concurrency": 1,
        "utilization_pct": 100.0,
        "memory_mb": 1512.0,
        "gpu_utilization": 0.93,
        "tasks_per_minute": 5.25,
    }
    return Snapshot(
        at=0.0,
        queues=[queue(f"queue-{number}") for number in range(queues)],
        workers=[worker],
        stats={"total_tasks": 1_234_567, "tasks_last_hour": 89, "by_status": {"COMPLETED": 5}},
        running=[task(number) for number in range(running)],
        failed=[task(90, errors=["first", "CUDA out of memory\x1b[2J"], completed_at=ago(3600)) for _ in range(failed)],
    )


def drawn(frame: Frame, width: int = 80) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, height=24, color_system=None).print(frame)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 60, 120, 200])
@pytest.mark.parametrize(("queues", "running", "failed"), [(2, 3, 2), (40, 50, 10), (0, 0, 0), (1, 50, 0)])
def test_it_fits_into_the_terminal(width: int, queues: int, running: int, failed: int) -> None:
    lines = drawn(Frame("http://127.0.0.1:8000", snapshot(queues, running, failed), 12.0, None, 24), width)
    assert len(lines) <= 24
    assert max(map(len, lines)) <= width


def test_it_shows_what_matters() -> None:
    text = "\n".join(drawn(Frame("http://127.0.0.1:8000", snapshot(), 12.0, None, 24)))
    for word in ("1,234,567 tasks", "waiting 0", "running 4", "12/min", "failed 2", "queue-0", "1 min 15 s", "93 %"):
        assert word in text
    for word in ("Flux-3f2a@host1", "1/1", "1,512 MB", "42 %", "CUDA out of memory", "1 h 0 min ago"):
        assert word in text
    assert "\x1b" not in text


def test_what_there_is_no_room_for_is_counted() -> None:
    text = "\n".join(drawn(Frame("http://x", snapshot(queues=40), None, None, 24)))
    assert "of 40)" in text


def test_queues_with_work_come_first() -> None:
    idle = [queue(f"idle-{number}") | {"active_tasks": 0, "reserved_tasks": 0} for number in range(9)]
    seen = snapshot(running=50, failed=10)
    text = "\n".join(drawn(Frame("http://x", replace(seen, queues=[*idle, queue("busy", 7)]), None, None, 24)))
    assert "busy" in text
    assert "idle-8" not in text


def test_a_server_that_is_away_is_told_above_what_was_seen_last() -> None:
    lines = drawn(Frame("http://x", snapshot(), None, "away for 5.0 s: nobody answers", 24))
    assert "away for 5.0 s: nobody answers" in lines
    assert any("queue-0" in line for line in lines)
    assert len(lines) <= 24
    assert drawn(Frame("http://x", None, None, "away for 1.0 s: no", 24))[1] == "away for 1.0 s: no"


def test_a_server_that_says_other_things_breaks_nothing() -> None:
    odd = Snapshot(0.0, [{"name": None}], [{}], {}, [{"id": 1, "progress": None}], [{"id": 1, "errors": None}])
    assert len(drawn(Frame("http://x", odd, None, None, 24))) > 5


@pytest.mark.parametrize(
    ("height", "wanted", "given"),
    [(24, [2, 1, 30, 0], [2, 1, 15, 0]), (10, [9, 9], [3, 3]), (3, [1, 1, 1], [0, 0, 0]), (99, [1, 2], [1, 2])],
)
def test_rows_are_shared_out(height: int, wanted: list[int], given: list[int]) -> None:
    assert rows_for(height, wanted) == given
