"""Drawings of a workflow in a terminal, and the lines in their place where there is none."""

import io
import re
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from compute.schemas.enums import StepStatus, WorkflowStatus
from compute.terminal.diagram import Diagram, levels
from compute.terminal.lines import changes
from compute.terminal.show import show
from compute.terminal.words import duration
from tests.unit.terminal.views import ID, NOW, approval, step, workflow

S = StepStatus
EVERY_STATUS = workflow(
    step("draw", S.COMPLETED, tasks=4, retry_count=2),
    step("upscale", S.RUNNING, "draw", progress=42.0),
    step("cut-out", S.FAILED, "draw", error_message="Invalid input: [red]no subject[/red]"),
    step("gate", S.PENDING, "upscale", awaits_approval=True),
    step("stopped", S.CANCELLED, "upscale", error_message="A task of it was cancelled."),
    step("left-out", S.SKIPPED, "upscale", error_message="Its condition does not hold."),
    step("last", S.PENDING, "gate", "left-out"),
    eta_seconds=75.0,
)


def drawn(shown: dict[str, Any], width: int = 120, most_lines: int | None = None, **terminal: Any) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, color_system=None, **terminal)
    console.print(Diagram(shown, NOW, most_lines))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def line_of(lines: list[str], *words: str) -> str:
    (found,) = [line for line in lines if all(word in line for word in words)]
    return found


@pytest.mark.parametrize("width", [200, 120, 95, 63, 40])
def test_every_step_and_its_status_are_seen_in_any_width(width: int) -> None:
    lines = drawn(EVERY_STATUS, width)
    assert max(cell_len(line) for line in lines) <= width
    for name, status in [
        ("draw", "COMPLETED"),
        ("upscale", "RUNNING"),
        ("cut-out", "FAILED"),
        ("gate", "AWAITS APPROVAL"),
        ("stopped", "CANCELLED"),
        ("left-out", "SKIPPED"),
        ("last", "PENDING"),
    ]:
        line_of(lines, f" {name} ", status)


def test_statuses_differ_in_their_signs_and_in_their_colours() -> None:
    file = io.StringIO()
    console = Console(file=file, width=120, force_terminal=True, color_system="standard")
    console.print(Diagram(EVERY_STATUS, NOW))
    signs = set(re.findall(r"\x1b\[([\d;]+)m([○◆●✔↷⊘✘])\x1b", file.getvalue()))
    assert len({sign for _, sign in signs}) == 7
    assert len({colour for colour, _ in signs}) == 6  # what waits and what is left out are both dim


def test_steps_stand_in_levels_and_name_what_they_wait_for() -> None:
    assert [[one["step_id"] for one in level] for level in levels(EVERY_STATUS["steps"])] == [
        ["draw"],
        ["upscale", "cut-out"],
        ["gate", "stopped", "left-out"],
        ["last"],
    ]
    steps = [line[:4] for line in drawn(EVERY_STATUS)[2:9]]
    assert steps == [" 1 ─", " 2 ┌", "   └", " 3 ┌", "   ├", "   └", " 4 ─"]
    assert line_of(drawn(EVERY_STATUS), "last").endswith("← gate, left-out")


def test_a_step_tells_its_tasks_retries_and_time() -> None:
    lines = drawn(EVERY_STATUS)
    draw, upscale = line_of(lines, " draw ", "COMPLETED"), line_of(lines, " upscale ", "RUNNING")
    assert "100 %" in draw
    assert "4.0 s · 4 tasks · 2 retries" in draw
    assert " 42 %" in upscale
    assert "10 s" in upscale


def test_the_workflow_tells_its_progress_and_how_long_it_will_take() -> None:
    first, second = drawn(EVERY_STATUS)[:2]
    assert first == f"● test  RUNNING  {ID}"
    assert "35 % · 2 of 7 steps · 1 min 0 s · about 1 min 15 s left" in second


def test_what_went_wrong_is_told_in_full() -> None:
    lines = drawn(EVERY_STATUS)
    assert "cut-out: Invalid input: [red]no subject[/red]" in lines
    assert "stopped: A task of it was cancelled." in lines
    assert "Its condition does not hold." in line_of(lines, " left-out ", "SKIPPED")


def test_text_of_others_cannot_steer_the_terminal() -> None:
    nasty = workflow(step("a\x1b[2Jb\nc", S.FAILED, error_message="\x1b]0;title\x07bad\r\nworse"), name="x\x1by")
    text = "\n".join([*drawn(nasty), *changes(None, nasty, NOW, approval)])
    assert not {"\x1b", "\x07", "\r"} & set(text)
    assert "bad worse" in text


def test_a_large_workflow_shows_what_matters_in_the_room_that_there_is() -> None:
    many = [step(f"done-{index}", S.COMPLETED) for index in range(400)]
    large = workflow(*many, step("runs", S.RUNNING, "done-7"), step("broken", S.FAILED, error_message="no"))
    lines = drawn(large, most_lines=24)
    assert len(lines) <= 24
    line_of(lines, " runs ", "RUNNING")
    line_of(lines, " broken ", "FAILED")
    assert "more steps" in line_of(lines, "…")
    assert len(drawn(large)) > 400


def test_without_a_terminal_there_is_one_line_for_each_change_and_no_escape() -> None:
    looks = [
        workflow(step("draw", S.PENDING), step("end", S.PENDING, "draw"), status=WorkflowStatus.PENDING),
        workflow(step("draw", S.RUNNING, tasks=4), step("end", S.PENDING, "draw")),
        workflow(step("draw", S.RUNNING, tasks=4, progress=10.0), step("end", S.PENDING, "draw")),
        workflow(step("draw", S.RUNNING, tasks=4, progress=60.0), step("end", S.PENDING, "draw")),
        workflow(step("draw", S.COMPLETED, tasks=4), step("end", S.PENDING, "draw", awaits_approval=True)),
        workflow(
            step("draw", S.COMPLETED, tasks=4),
            step("end", S.FAILED, "draw", error_message="it broke", retry_count=1),
            status=WorkflowStatus.FAILED,
            error_message="end: it broke",
            completed_at=NOW,
        ),
    ]
    file = io.StringIO()
    last = show([look for look in looks for _ in range(3)], approval, Console(file=file, width=20))
    assert last["status"] == "FAILED"
    assert file.getvalue().splitlines() == [
        f"test: 2 steps, {ID}",
        "test: PENDING",
        "draw: RUNNING (4 tasks)",
        "test: RUNNING",
        "draw: 50 %",
        "draw: COMPLETED (4.0 s, 4 tasks)",
        f"end: awaits approval: compute workflow approve {ID} end",
        "end: FAILED (4.0 s, 1 retry): it broke",
        "test: FAILED: end: it broke (1 min 0 s)",
    ]


def test_a_terminal_gets_the_drawing_whose_last_state_stays() -> None:
    ended = workflow(step("draw", S.COMPLETED), status=WorkflowStatus.COMPLETED, completed_at=NOW)
    file = io.StringIO()
    show([EVERY_STATUS, ended], approval, Console(file=file, width=100, height=30, force_terminal=True))
    assert "━" in file.getvalue()
    assert "draw" in file.getvalue().rsplit("COMPLETED", 1)[0]
    assert file.getvalue().endswith("\x1b[?25h")


def test_a_terminal_gets_the_command_that_approves_once_and_unbroken() -> None:
    ended = workflow(step("gate", S.COMPLETED), status=WorkflowStatus.COMPLETED, completed_at=NOW)
    file = io.StringIO()
    show([EVERY_STATUS, EVERY_STATUS, ended], approval, Console(file=file, width=40, height=30, force_terminal=True))
    assert file.getvalue().count(f"gate awaits approval: compute workflow approve {ID} gate\n") == 1


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_every_approval_is_asked_for_also_the_second_of_one_step(terminal: bool) -> None:
    def gates(first: bool, second: bool) -> dict[str, Any]:
        return workflow(step("a", S.PENDING, awaits_approval=first), step("b", S.PENDING, awaits_approval=second))

    ended = workflow(step("a", S.COMPLETED), step("b", S.COMPLETED), status=WorkflowStatus.COMPLETED, completed_at=NOW)
    seen = [gates(True, False), gates(False, True), gates(True, True), gates(True, False), gates(False, False), ended]
    file = io.StringIO()
    show(
        [look for look in seen for _ in range(2)],
        approval,
        Console(file=file, width=100, height=30, force_terminal=terminal),
    )
    asked = re.findall(r"(\w) ?:? awaits approval", file.getvalue())
    assert asked == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3 * 3600 + 120, "3 h 2 min"),
        (49 * 3600, "2 d 1 h"),
    ],
)
def test_durations_are_short(seconds: float, said: str) -> None:
    assert duration(seconds) == said
