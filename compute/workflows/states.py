"""The lives of workflows and of their steps: two tables of allowed transitions, and nothing else changes a status.

A workflow
PENDING    defined; waits to be started
RUNNING    an engine holds its lease, or will soon; also while it waits for an approval
PAUSED     what runs may end, nothing new begins
FAILED     a step failed and everything else that could run has ended; may be resumed
COMPLETED  every step has ended well; may be run again from a step
CANCELLED  ended by a client, for good

A step
PENDING    waits for the steps before it, or for an approval
RUNNING    its tasks exist
COMPLETED, FAILED, SKIPPED, CANCELLED  ended; a resume may put it back to PENDING
"""

from collections.abc import Mapping
from types import MappingProxyType

from compute.schemas.enums import StepStatus, WorkflowStatus

__all__ = ["ENDED_STEPS", "ENDED_WORKFLOWS", "OPEN_WORKFLOWS", "STEP_TRANSITIONS", "WORKFLOW_TRANSITIONS"]

_W, _S = WorkflowStatus, StepStatus

WORKFLOW_TRANSITIONS: Mapping[WorkflowStatus, frozenset[WorkflowStatus]] = MappingProxyType(
    {
        _W.PENDING: frozenset({_W.RUNNING, _W.CANCELLED}),
        _W.RUNNING: frozenset({_W.PAUSED, _W.COMPLETED, _W.FAILED, _W.CANCELLED}),
        _W.PAUSED: frozenset({_W.RUNNING, _W.CANCELLED}),
        _W.FAILED: frozenset({_W.RUNNING}),
        _W.COMPLETED: frozenset({_W.RUNNING}),
        _W.CANCELLED: frozenset(),
    }
)

STEP_TRANSITIONS: Mapping[StepStatus, frozenset[StepStatus]] = MappingProxyType(
    {
        # Completed at once: an earlier result is taken over. Failed at once: its inputs cannot be had.
        _S.PENDING: frozenset({_S.RUNNING, _S.COMPLETED, _S.FAILED, _S.SKIPPED, _S.CANCELLED}),
        _S.RUNNING: frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED}),
        _S.COMPLETED: frozenset({_S.PENDING}),
        _S.FAILED: frozenset({_S.PENDING}),
        _S.SKIPPED: frozenset({_S.PENDING}),
        _S.CANCELLED: frozenset({_S.PENDING}),
    }
)

ENDED_WORKFLOWS = frozenset({_W.COMPLETED, _W.FAILED, _W.CANCELLED})
OPEN_WORKFLOWS = frozenset({_W.RUNNING, _W.PAUSED})
"""Those that an engine may hold."""
ENDED_STEPS = frozenset({_S.COMPLETED, _S.FAILED, _S.SKIPPED, _S.CANCELLED})
