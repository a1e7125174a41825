"""Keeps a caller's own JSON in rows as it was sent.

The database keeps an object's members in an order of its own and writes numbers in its own way. Where that would show,
the object is kept as text beside it.
"""

from collections.abc import Mapping
from typing import Any

from compute.db.tables import Workflow, WorkflowStep

__all__ = ["definition_of", "kept_as_sent", "values_of"]


def values_of(workflow: Workflow) -> dict[str, dict[str, Any]]:
    """`config` and `input` of a workflow."""
    return {"config": workflow.config, "input": workflow.input} | (workflow.sent or {})


def definition_of(step: WorkflowStep) -> dict[str, Any]:
    """The definition of a step as it was sent."""
    return step.definition | (step.sent or {})


def kept_as_sent(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The values that JSONB would give back in another way; None if there are none.

    Example:
        kept_as_sent({"seed": 7, "scale": 1.0})  # {"scale": 1.0}
    """
    return {name: value for name, value in values.items() if _comes_back_otherwise(value)} or None


def _comes_back_otherwise(value: Any) -> bool:
    """Whether there is a number with a fraction or an exponent in it, or an object in another order than JSONB's:
    shorter keys first, then by their bytes."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, float):
            return True
        if isinstance(one, dict):
            names = [name.encode() for name in one]
            if names != sorted(names, key=lambda name: (len(name), name)):
                return True
            left += one.values()
        elif isinstance(one, list):
            left += one
    return False
