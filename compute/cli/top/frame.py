"""Draws one frame: as many rows as the terminal has, in columns that fit its width."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from compute.cli.top.snapshot import Json, Snapshot
from compute.terminal.words import clean, duration

__all__ = ["Frame", "checked", "rows_for"]

HEAD_LINES = 3
_WIDE = 100
"""Columns from which there is room for names and errors."""


def rows_for(height: int, wanted: Sequence[int]) -> list[int]:
    """How many rows each section gets, of which each also takes a line for its head and an empty one before it.

    Sections that want less leave the rest to the others.

    Example:
        rows_for(24, [2, 1, 30, 0])  # [2, 1, 10, 0]
    """
    given = [0] * len(wanted)
    left = height - 2 * sum(1 for want in wanted if want)
    while left > 0 and any(has < want for has, want in zip(given, wanted, strict=True)):
        for number, want in enumerate(wanted):
            if given[number] < want and left > 0:
                given[number] += 1
                left -= 1
    return given


@dataclass(frozen=True, slots=True)
class Frame:
    """What is on the screen.

    Attributes:
        url: The server.
        now: The last snapshot; None before the first.
        per_minute: Tasks that end in a minute, measured between snapshots; None before the second.
        trouble: Why there is no newer snapshot, and since when; None if all is well.
        height: Lines to fill; None for as many as there are.
    """

    url: str
    now: Snapshot | None
    per_minute: float | None
    trouble: str | None
    height: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        yield self._title(width)
        if self.now is None:
            yield Text(
                self.trouble or "asking …", "yellow" if self.trouble else "dim", no_wrap=True, overflow="ellipsis"
            )
            return
        yield self._counts()
        if self.trouble:
            yield _line(self.trouble, "bold red")
        yield from self._sections(self.now, width)

    def _title(self, width: int) -> Text:
        clock = f"{datetime.now():%H:%M:%S}"
        title = Text.assemble(("compute top", "bold"), f"  {clean(self.url)}", ("   q leaves", "dim"))
        title.truncate(max(0, width - len(clock) - 1), overflow="ellipsis", pad=True)
        return Text.assemble(title, " ", clock, no_wrap=True)

    def _counts(self) -> Text:
        assert self.now is not None  # noqa: S101 - asked before
        stats, queues = self.now.stats, self.now.queues
        failed = sum(int(one.get("tasks_failed_last_hour") or 0) for one in queues)
        line = _line(f"waiting {_sum(queues, 'depth'):,}   running {_sum(queues, 'active_tasks'):,}")
        if self.per_minute is not None:
            line.append(f"   {self.per_minute:,.0f}/min")
        if failed:
            line.append(f"   failed {failed:,}", "red")
        tasks, lately = (int(stats.get(name) or 0) for name in ("total_tasks", "tasks_last_hour"))
        return line.append(f"   {tasks:,} tasks, {lately:,} this hour", "dim")

    def _sections(self, now: Snapshot, width: int) -> Iterator[Any]:
        sections = [
            # Those with work first: there may not be room for all.
            (sorted(now.queues, key=_is_idle), _queues),
            (now.workers, _workers),
            (sorted(now.running, key=lambda one: str(one.get("started_at"))), _running),
            (now.failed, _failed),
        ]
        wanted = [len(rows) for rows, _ in sections]
        lines = None if self.height is None else self.height - HEAD_LINES - bool(self.trouble)
        given = wanted if lines is None else rows_for(lines, wanted)
        for (rows, draw), most in zip(sections, given, strict=True):
            if rows and most:
                yield Text("")
                yield draw(rows[:most], len(rows), width)


def checked(found: Snapshot) -> Snapshot:
    """The snapshot, if it can be drawn.

    Raises:
        UnexpectedAnswer: it holds something that is not of the API.
    """
    from compute.client import UnexpectedAnswer

    try:
        found.done()
        Console(file=io.StringIO(), width=_WIDE).print(Frame("", found, None, None))
    except Exception as error:
        raise UnexpectedAnswer(f"the answer is not understood: {type(error).__name__}: {error}") from error
    return found


def _line(text: str, style: str = "") -> Text:
    """A line that is cut where the terminal ends."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _queues(rows: Sequence[Json], total: int, width: int) -> Table:
    table = _table("queue", *_more(rows, total), "waiting", "held", "running", "workers", "wait", "oldest", "done/h")
    for one in rows:
        lonely = one.get("depth") and not one.get("active_workers")
        table.add_row(
            Text(clean(str(one.get("name"))), "bold red" if lonely else "bold"),
            *(_number(one.get(name)) for name in ("depth", "reserved_tasks", "active_tasks", "active_workers")),
            _seconds(one.get("avg_wait_time_ms"), 1000),
            _seconds(one.get("oldest_waiting_seconds")),
            _number(one.get("tasks_completed_last_hour")),
        )
    return table


def _workers(rows: Sequence[Json], total: int, width: int) -> Table:
    head = ["worker", *_more(rows, total), "running", "busy", "memory", "gpu", "done/min"]
    table = _table(*head)
    for one in rows:
        gpu = one.get("gpu_utilization")
        table.add_row(
            Text(clean(str(one.get("name"))), "bold"),
            f"{one.get('active_tasks') or 0}/{one.get('concurrency') or 0}",
            f"{one.get('utilization_pct') or 0:.0f} %",
            "-" if one.get("memory_mb") is None else f"{one['memory_mb']:,.0f} MB",
            "-" if gpu is None else f"{100 * gpu:.0f} %",
            f"{one.get('tasks_per_minute') or 0:.1f}",
        )
    return table


def _running(rows: Sequence[Json], total: int, width: int) -> Table:
    table = _table("running", *_more(rows, total), "", "", "for", "where" if width >= _WIDE else "")
    for one in rows:
        progress = float(one.get("progress") or 0)
        table.add_row(
            Text.assemble((_id(one, width), "bold"), f"  {clean(str(one.get('task_type')))}"),
            ProgressBar(total=100, completed=progress, width=16),
            f"{progress:.0f} %",
            _since(one.get("started_at")),
            Text(clean(str(one.get("executor_instance") or "")), "dim") if width >= _WIDE else "",
        )
    return table


def _failed(rows: Sequence[Json], total: int, width: int) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    for least in (None, None, 1):
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=least)
    table.add_row(Text("FAILED LAST", "dim"), "", "")
    for one in rows:
        errors = one.get("errors") or [one.get("error_category") or "the server gives no reason"]
        table.add_row(
            Text.assemble((_id(one, width), "bold"), f"  {clean(str(one.get('task_type')))}"),
            f"{_since(one.get('completed_at'))} ago",
            Text(clean(str(errors[-1])), "red"),
        )
    return table


def _table(first: str, *rest: str) -> Table:
    """A grid whose first column takes what is left, and whose other columns are numbers."""
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    names = [name for name in rest if not name.startswith("(")]
    for _ in names:
        table.add_column(no_wrap=True, justify="right")
    more = next((name for name in rest if name.startswith("(")), "")
    table.add_row(Text(f"{first.upper()}  {more}".rstrip(), "dim"), *(Text(name.upper(), "dim") for name in names))
    return table


def _more(rows: Sequence[Json], total: int) -> list[str]:
    """A word about the rows for which there is no room."""
    return [f"({len(rows)} of {total})"] if total > len(rows) else []


def _id(task: Json, width: int) -> str:
    text = str(task.get("id"))
    # The end tells tasks of one moment apart; the beginning is the moment.
    return text if width >= _WIDE else f"…{text[-8:]}"


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _is_idle(queue: Json) -> bool:
    return not any(queue.get(name) for name in ("depth", "active_tasks", "reserved_tasks"))


def _sum(rows: Sequence[Json], name: str) -> int:
    return sum(int(one.get(name) or 0) for one in rows)


def _seconds(value: Any, per: float = 1.0) -> str:
    return "-" if value is None else duration(float(value) / per)


def _since(moment: Any) -> str:
    try:
        return duration(max(0.0, (datetime.now(UTC) - datetime.fromisoformat(str(moment))).total_seconds()))
    except (ValueError, TypeError):
        return "-"
