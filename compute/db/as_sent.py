"""What rows hold of their caller's own, as it was sent."""

from typing import Any

from compute.db.tables import Workflow, WorkflowStep

__all__ = ["definition_of", "values_of"]


def values_of(workflow: Workflow) -> dict[str, dict[str, Any]]:
    """`config` and `input` of a workflow."""
    return {"config": workflow.config, "input": workflow.input} | (workflow.sent or {})


def definition_of(step: WorkflowStep) -> dict[str, Any]:
    """What a step was defined as."""
    return step.definition | (step.sent or {})
