"""Shows a workflow while it runs, in whatever the output is."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live

from compute.terminal.drawing import Drawing
from compute.terminal.lines import changes
from compute.terminal.words import AWAITS_APPROVAL, Json, clean, state
from compute.workflows.states import ENDED_WORKFLOWS

__all__ = ["show"]

_LINES_LEFT = 2
"""Of a terminal, free for the cursor and for what was there before."""


def show(looks: Iterable[Json], approval: Callable[[str], str], console: Console) -> Json:
    """Show every look at a workflow; the last one is returned. There must be one.

    A terminal gets a drawing that changes in its place; a file, a pipe, or a terminal that can do no more gets lines.
    """
    draws = console.is_terminal and not console.is_dumb_terminal and not console.options.ascii_only
    return (_draw if draws else _write)(looks, approval, console)


def _draw(looks: Iterable[Json], approval: Callable[[str], str], console: Console) -> Json:
    workflow: Json = {}
    told: set[str] = set()
    with Live(console=console, auto_refresh=False) as live:
        for workflow in looks:
            waiting = [step["step_id"] for step in workflow["steps"] if state(step) == AWAITS_APPROVAL]
            for step_id in waiting:
                if step_id not in told:
                    # Above the drawing, whole: a line that the drawing breaks could not be pasted.
                    _print(console, f"{clean(step_id)} awaits approval: {approval(step_id)}")
            # A step that is run again awaits another approval.
            told = set(waiting)
            # The last one stays, and is longer than the terminal if need be.
            most = None if workflow["status"] in ENDED_WORKFLOWS else console.height - _LINES_LEFT
            live.update(Drawing(workflow, datetime.now(UTC), most), refresh=True)
    return workflow


def _write(looks: Iterable[Json], approval: Callable[[str], str], console: Console) -> Json:
    before: Json | None = None
    for workflow in looks:
        for line in changes(before, workflow, datetime.now(UTC), approval):
            _print(console, line)
        before = workflow
    return before or {}


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
