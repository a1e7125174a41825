"""A workflow's progress as lines for a log: one for each change."""

from collections.abc import Callable, Iterator
from datetime import datetime

from compute.schemas.enums import StepStatus
from compute.terminal.words import AWAITS_APPROVAL, Json, clean, count, elapsed, failure, notes, reason, state
from compute.workflows.states import ENDED_WORKFLOWS

__all__ = ["changes"]

_QUARTER = 25
"""Percent of a step's progress after which a line is printed."""


def changes(before: Json | None, after: Json, now: datetime, approval: Callable[[str], str]) -> list[str]:
    """List the changes between two states of a workflow. `before` is None for the first state.

    `approval` returns the command that approves a step.
    """
    lines = []
    if before is None:
        lines.append(f"{clean(after['name'])}: {count(after['total_steps'], 'step', 'steps')}, {after['id']}")
    earlier = {step["step_id"]: step for step in before["steps"]} if before else {}
    for step in after["steps"]:
        lines += _of_step(earlier.get(step["step_id"]), step, now, approval)
    if before is None or before["status"] != after["status"]:
        lines.append(_of_workflow(after, now))
    return lines


def _of_workflow(workflow: Json, now: datetime) -> str:
    if workflow["status"] not in ENDED_WORKFLOWS:
        return f"{clean(workflow['name'])}: {workflow['status']}"
    taken = elapsed(workflow, now)
    return f"{clean(workflow['name'])}: {failure(workflow)}" + (f" ({taken})" if taken else "")


def _of_step(before: Json | None, step: Json, now: datetime, approval: Callable[[str], str]) -> Iterator[str]:
    name, is_state = clean(step["step_id"]), state(step)
    if is_state != (state(before) if before else StepStatus.PENDING):
        if is_state == AWAITS_APPROVAL:
            yield f"{name}: awaits approval: {approval(step['step_id'])}"
        else:
            about = ", ".join(notes(step, now)) if step["status"] != StepStatus.RUNNING else _tasks(step)
            why = reason(step)
            yield f"{name}: {is_state}" + (f" ({about})" if about else "") + (f": {why}" if why else "")
    elif step["status"] == StepStatus.RUNNING and before and _quarters(step) > _quarters(before):
        yield f"{name}: {_quarters(step) * _QUARTER} %"


def _tasks(step: Json) -> str:
    return f"{len(step['task_ids'])} tasks" if len(step["task_ids"]) > 1 else ""


def _quarters(step: Json) -> int:
    return int(step["progress"] // _QUARTER)
