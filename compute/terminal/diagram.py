"""A diagram of a workflow for a terminal: its DAG level by level, every step with its state and its progress."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from compute.schemas.enums import StepStatus, WorkflowStatus
from compute.terminal.words import AWAITS_APPROVAL, Json, clean, count, duration, elapsed, notes, reason, state
from compute.workflows.definition import graph
from compute.workflows.states import ENDED_WORKFLOWS

__all__ = ["Diagram", "levels"]

_STYLES = {
    StepStatus.PENDING: ("○", "dim"),
    AWAITS_APPROVAL: ("◆", "bold yellow"),
    StepStatus.RUNNING: ("●", "bold cyan"),
    WorkflowStatus.PAUSED: ("‖", "bold yellow"),
    StepStatus.COMPLETED: ("✔", "green"),
    StepStatus.SKIPPED: ("↷", "dim"),
    StepStatus.CANCELLED: ("⊘", "magenta"),
    StepStatus.FAILED: ("✘", "bold red"),
}
_URGENCY = (StepStatus.FAILED, AWAITS_APPROVAL, StepStatus.RUNNING, StepStatus.CANCELLED, StepStatus.PENDING)
"""States in the order in which steps are kept when there is not room for all."""

_NOTES_FROM, _TYPES_FROM = 64, 96
"""Least width of a terminal, in columns, that shows bars and notes, and that shows the types of tasks."""
_BAR_WIDTH = 12
_NARROWEST_NAME, _WIDEST_NAME = 6, 40
_OTHER_COLUMNS = 30
"""Width, in columns, of everything but the names in a narrow terminal."""


def levels(steps: Sequence[Json]) -> list[list[Json]]:
    """Group the steps by the length of the longest path to them. Steps of a level do not depend on each other."""
    edges: Mapping[str, Sequence[str]] = {step["step_id"]: step["dependencies"] for step in steps}
    depth: dict[str, int] = {}
    for name in graph.walk(edges):
        depth[name] = 1 + max((depth[parent] for parent in edges[name]), default=-1)
    found: list[list[Json]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for step in steps:
        found[depth[step["step_id"]]].append(step)
    return found


@dataclass(frozen=True, slots=True)
class Diagram:
    """Renders a workflow at the width of the console.

    Attributes:
        workflow: As the API shows it.
        now: The time up to which running steps are timed.
        most_lines: The height available; the steps that matter least are left out. None shows all.
    """

    workflow: Json
    now: datetime
    most_lines: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._head(options.max_width)
        messages = list(self._messages())[: None if self.most_lines is None else self.most_lines // 2]
        steps = self.workflow["steps"]
        shown = self._shown(steps, len(messages))
        yield self._dag([step["step_id"] for step in shown], options.max_width)
        if left := len(steps) - len(shown):
            yield Text(f"  … and {count(left, 'more step', 'more steps')}", "dim")
        yield from messages

    def _head(self, width: int) -> Iterator[RenderableType]:
        workflow = self.workflow
        sign, style = _STYLES[workflow["status"]]
        yield Text.assemble(
            (f"{sign} ", style),
            (clean(workflow["name"]), "bold"),
            (f"  {workflow['status']}", style),
            (f"  {workflow['id']}", "dim"),
            overflow="ellipsis",
            no_wrap=True,
        )
        words = [
            f"{workflow['progress']:.0f} %",
            f"{workflow['completed_steps']} of {count(workflow['total_steps'], 'step', 'steps')}",
        ]
        if taken := elapsed(workflow, self.now):
            words.append(taken)
        if workflow["eta_seconds"] is not None and workflow["status"] not in ENDED_WORKFLOWS:
            words.append(f"about {duration(workflow['eta_seconds'])} left")
        said, bar = Text(" · ".join(words)), _bar(workflow["progress"], max(4, min(30, width // 3)), style)
        if width < _NOTES_FROM:
            yield from (bar, said)
            return
        line = Table.grid(padding=(0, 1))
        line.add_row(bar, said)
        yield line

    def _shown(self, steps: Sequence[Json], lines_of_messages: int) -> Sequence[Json]:
        """All steps, or as many as there is room for: the most urgent ones, in their order."""
        room = len(steps) if self.most_lines is None else max(1, self.most_lines - lines_of_messages - 3)
        if len(steps) <= room:
            return steps
        first = sorted(range(len(steps)), key=lambda index: _urgency(steps[index]))[:room]
        return [steps[index] for index in sorted(first)]

    def _dag(self, shown: Sequence[str], width: int) -> Table:
        names = frozenset(shown)
        table = Table.grid(padding=(0, 1))
        for least in self._column_widths(shown, width):
            table.add_column(no_wrap=True, overflow="ellipsis", min_width=least, max_width=least)
        if width >= _NOTES_FROM:
            table.add_column(no_wrap=True, overflow="ellipsis")
        for level, steps in enumerate(levels(self.workflow["steps"]), 1):
            here = [step for step in steps if step["step_id"] in names]
            for index, step in enumerate(here):
                table.add_row(_branch(level, index, len(here)), *self._cells(step, width))
        return table

    def _column_widths(self, shown: Sequence[str], width: int) -> Iterator[int]:
        """The widths of all columns except that of the notes, which gets the rest; in the order of `_cells`."""
        steps = self.workflow["steps"]
        yield len(_branch(len(steps), 0, 1))
        yield 1
        room = width // 3 if width >= _NOTES_FROM else width - _OTHER_COLUMNS
        yield max(_NARROWEST_NAME, min(_WIDEST_NAME, room, max(cell_len(clean(name)) for name in shown)))
        yield max(len(state(step)) for step in steps)
        if width >= _NOTES_FROM:
            yield _BAR_WIDTH
        yield len("100 %")
        if width >= _TYPES_FROM:
            yield max(len(step["task_type"]) for step in steps)

    def _cells(self, step: Json, width: int) -> Iterator[RenderableType]:
        is_state = state(step)
        sign, style = _STYLES[is_state]
        runs = step["status"] in (StepStatus.RUNNING, StepStatus.COMPLETED)
        yield Text(sign, style)
        yield Text(clean(step["step_id"]))
        yield Text(is_state, style)
        if width >= _NOTES_FROM:
            yield _bar(step["progress"], _BAR_WIDTH, style) if runs else Text("")
        yield Text(f"{step['progress']:>3.0f} %" if runs else "")
        if width >= _TYPES_FROM:
            yield Text(step["task_type"], "dim")
        if width >= _NOTES_FROM:
            yield self._notes(step)

    def _notes(self, step: Json) -> Text:
        parts = [" · ".join(notes(step, self.now))]
        if step["dependencies"]:
            parts.append(clean(f"← {', '.join(step['dependencies'])}"))
        if step["status"] == StepStatus.SKIPPED:
            parts.append(reason(step) or "")
        first, *others = [part for part in parts if part] or [""]
        return Text.assemble(
            (first, "dim" if first != parts[0] else ""), ("".join(f"  {part}" for part in others), "dim")
        )

    def _messages(self) -> Iterator[Text]:
        """One line for each failed or cancelled step, with the full reason."""
        for step in self.workflow["steps"]:
            is_state, name = state(step), clean(step["step_id"])
            if is_state in (StepStatus.FAILED, StepStatus.CANCELLED):
                yield Text.assemble((f"{name}: ", _STYLES[is_state][1]), reason(step) or "")


def _urgency(step: Json) -> int:
    is_state = state(step)
    return _URGENCY.index(is_state) if is_state in _URGENCY else len(_URGENCY)


def _bar(percent: float, width: int, style: str) -> ProgressBar:
    return ProgressBar(total=100, completed=percent, width=width, complete_style=style, finished_style=style)


def _branch(level: int, index: int, of: int) -> Text:
    """The level's number at its first step, and a bracket around the steps that run in parallel."""
    bracket = "─" if of == 1 else "┌" if index == 0 else "└" if index == of - 1 else "├"
    return Text(f"{level if index == 0 else '':>2} {bracket}", "dim")
