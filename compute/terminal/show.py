"""Shows a workflow while it runs: a live diagram in a terminal, lines anywhere else."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live

from compute.terminal.diagram import Diagram
from compute.terminal.lines import changes
from compute.terminal.words import AWAITS_APPROVAL, Json, clean, state
from compute.workflows.states import ENDED_WORKFLOWS

__all__ = ["show"]

_LINES_LEFT = 2
"""Lines of a terminal that stay free for the cursor and for earlier output."""


def show(states: Iterable[Json], approval: Callable[[str], str], console: Console) -> Json:
    """Show each state of a workflow as it comes and return the last one. There must be at least one.

    A terminal gets a diagram that changes in place; a file, a pipe or a terminal without cursor control gets lines.
    """
    live = console.is_terminal and not console.is_dumb_terminal and not console.options.ascii_only
    return (_show_live if live else _write)(states, approval, console)


def _show_live(states: Iterable[Json], approval: Callable[[str], str], console: Console) -> Json:
    workflow: Json = {}
    told: set[str] = set()
    with Live(console=console, auto_refresh=False) as live:
        for workflow in states:
            waiting = [step["step_id"] for step in workflow["steps"] if state(step) == AWAITS_APPROVAL]
            for step_id in waiting:
                if step_id not in told:
                    # Above the diagram and unbroken, so that the command can be pasted.
                    _print(console, f"{clean(step_id)} awaits approval: {approval(step_id)}")
            # A step that runs again needs a new approval.
            told = set(waiting)
            # The last state stays on the screen, so it may be longer than the terminal.
            most = None if workflow["status"] in ENDED_WORKFLOWS else console.height - _LINES_LEFT
            live.update(Diagram(workflow, datetime.now(UTC), most), refresh=True)
    return workflow


def _write(states: Iterable[Json], approval: Callable[[str], str], console: Console) -> Json:
    before: Json | None = None
    for workflow in states:
        for line in changes(before, workflow, datetime.now(UTC), approval):
            _print(console, line)
        before = workflow
    return before or {}


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
