"""The conditions under which a row may be deleted, defined once for all queries of this package.

A unit is due if no reason to keep it holds. Whether a unit that stays names files of a due one is another question: see
`compute.retention.needed`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from compute.tasks.registry import all_kinds
from compute.tasks.states import TERMINAL
from compute.training.states import ENDED_TRAININGS
from compute.workflows.states import ENDED_WORKFLOWS

__all__ = ["FOLDERS", "REASONS", "Cutoff", "due"]

FOLDERS = {name.value: kind.folder for name, kind in all_kinds().items()}
"""Folder of the results, by type of task. A task of a type that is not installed stays: its folder is unknown."""

_ENDED: Mapping[str, list[str]] = {
    "tasks": sorted(status.value for status in TERMINAL),
    "workflows": sorted(status.value for status in ENDED_WORKFLOWS),
    "trainings": sorted(status.value for status in ENDED_TRAININGS),
}

_UNENDED = "status <> ALL(%(ended)s)"
_LATELY = "completed_at IS NULL OR {row}.completed_at >= %(before)s"
# The offset keeps the planner from reading all rows that are PENDING, or of a workflow, at once for a page of others.
_CALLING = (
    "EXISTS (SELECT FROM webhook_deliveries AS call WHERE call.task_id = {row}.id AND call.status = 'PENDING' OFFSET 0)"
)
_PART = (
    "EXISTS (SELECT FROM tasks AS part"
    " WHERE part.workflow_id = {row}.id::text AND part.step_id IS NOT NULL AND {so} OFFSET 0)"
)

REASONS: Mapping[str, Mapping[str, str]] = {
    "tasks": {
        "has not ended": f"{{row}}.{_UNENDED}",
        "ended lately": f"{{row}}.{_LATELY}",
        "webhook is due": _CALLING,
        "type is not installed": "{row}.task_type <> ALL(%(installed)s)",
    },
    "workflows": {
        "has not ended": f"{{row}}.{_UNENDED}",
        "ended lately": f"{{row}}.{_LATELY}",
        "webhook is due": _CALLING,
        "task has not ended": _PART.replace("{so}", "part.status <> ALL(%(done)s)"),
        "task's webhook is due": _PART.replace("{so}", _CALLING.replace("{row}", "part")),
        "task's type is not installed": _PART.replace("{so}", "part.task_type <> ALL(%(installed)s)"),
    },
    "trainings": {
        "has not ended": f"{{row}}.{_UNENDED}",
        "ended lately": f"{{row}}.{_LATELY}",
        "webhook is due": _CALLING,
        "job is open": "{row}.job_open",
    },
}
"""Reasons to keep a unit, by table: SQL conditions on `{row}` that are never null. Tasks are those of no workflow."""


@dataclass(frozen=True, slots=True)
class Cutoff:
    """The time before which a unit must have ended to be deleted."""

    before: datetime

    def of(self, table: str) -> dict[str, Any]:
        """Return the parameters of the conditions in REASONS for that table."""
        return {
            "before": self.before,
            "ended": _ENDED[table],
            "done": _ENDED["tasks"],
            "installed": list(FOLDERS),
        }


def due(table: str, row: str) -> str:
    """Return the SQL condition that a row, called `row` in the statement, has no reason to stay."""
    reasons = " OR ".join(f"({reason.replace('{row}', row)})" for reason in REASONS[table].values())
    return f"NOT ({reasons})"
