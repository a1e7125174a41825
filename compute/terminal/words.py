"""Formats a workflow and its steps as short texts. `Json` is an object of the API's canonical answer."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from compute.schemas.enums import StepStatus

__all__ = ["AWAITS_APPROVAL", "Json", "clean", "count", "duration", "elapsed", "failure", "notes", "reason", "state"]

Json = Mapping[str, Any]

AWAITS_APPROVAL = "AWAITS APPROVAL"


def clean(text: str) -> str:
    """Return the text on one line, without characters that a terminal would act on."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def duration(seconds: float) -> str:
    """Format seconds with two units at most.

    Example:
        duration(3.2)  # 3.2 s
        duration(125)  # 2 min 5 s
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def elapsed(item: Json, now: datetime) -> str | None:
    """Format the time that a step or a workflow took, or has taken so far; None before it began."""
    if item["started_at"] is None:
        return None
    end = datetime.fromisoformat(item["completed_at"]) if item["completed_at"] else now
    # The times are the server's, while `now` may come from another machine's clock.
    return duration(max((end - datetime.fromisoformat(item["started_at"])).total_seconds(), 0.0))


def state(step: Json) -> str:
    """Return the step's status, or AWAITS_APPROVAL if the step only waits for an approval."""
    return AWAITS_APPROVAL if step["awaits_approval"] else str(step["status"])


def notes(step: Json, now: datetime) -> Sequence[str]:
    """List further facts about a step, to show after its status."""
    found = []
    if taken := elapsed(step, now):
        found.append(taken)
    if len(step["task_ids"]) > 1:
        found.append(f"{len(step['task_ids'])} tasks")
    if step["retry_count"]:
        found.append(count(step["retry_count"], "retry", "retries"))
    if step["reused_from"]:
        found.append("an earlier result")
    return found


def reason(step: Json) -> str | None:
    """Return why a step ended without a result."""
    if step["status"] not in (StepStatus.FAILED, StepStatus.CANCELLED, StepStatus.SKIPPED):
        return None
    return clean(step["error_message"] or step["error_category"] or "the server gives no reason")


def failure(workflow: Json) -> str:
    """Describe the end of a workflow in one line."""
    why = workflow["error_message"]
    return f"{workflow['status']}: {clean(why)}" if why else str(workflow["status"])
