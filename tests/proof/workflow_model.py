"""The life of a workflow: steps that begin after those before them, each once, and one end."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from compute.schemas.enums import StepStatus, WorkflowStatus
from compute.schemas.workflows import WorkflowStepDefinition
from compute.workflows.plan import Flow, Plan, StepOutcome, StepPlan, StepState
from compute.workflows.rows.journal import Checkpoint, JournalVerdict, Refused, Written
from compute.workflows.rows.statements import Begin, End, Finish, Renewal, WorkflowLease
from tests.proof.model import Asked, Ended, Model

__all__ = ["ModelStep", "ModelWorkflow", "WorkflowModel"]


@dataclass
class ModelStep:
    id: UUID
    name: str
    parents: tuple[str, ...]
    status: str = "PENDING"
    task_ids: list[str] = field(default_factory=list)
    result: Mapping[str, Any] | None = None
    blocked: bool = False


@dataclass
class ModelWorkflow:
    """`steps` come after their parents."""

    id: UUID
    steps: dict[str, ModelStep]
    status: str = "RUNNING"
    fence: int = 0
    lease_until: float | None = None
    parked: bool = False

    def plan(self) -> Plan:
        flow = Flow(self.id, self.fence, "simulated", None, None, None, None, False)
        left = [step for step in self.steps.values() if step.status in {"PENDING", "RUNNING"}]
        ended = {step.name: _outcome(step) for step in self.steps.values() if step not in left}
        named = {parent for step in self.steps.values() for parent in step.parents}
        return Plan(
            flow,
            tuple(_step_plan(flow, step) for step in left),
            ended,
            tuple(name for name in self.steps if name not in named),
        )


class WorkflowModel:
    """All workflows. Their tasks go to the model of tasks in the same moment."""

    def __init__(self, tasks: Model) -> None:
        self.workflows: dict[UUID, ModelWorkflow] = {}
        self._tasks = tasks

    def start(self, workflow: ModelWorkflow) -> None:
        self.workflows.setdefault(workflow.id, workflow)

    def claim(self, limit: int, *, until: float, now: float, locked: Collection[UUID]) -> list[Plan]:
        free = [
            one
            for one in self.workflows.values()
            if one.status == "RUNNING" and not one.parked and one.id not in locked
            if one.lease_until is None or one.lease_until < now
        ]
        for one in free[:limit]:
            one.fence += 1
            one.lease_until = until
        return [one.plan() for one in free[:limit]]

    def renew(self, leases: Sequence[WorkflowLease], *, until: float, locked: Collection[UUID]) -> Renewal:
        ours = {lease for lease in leases if self._holds(lease)}
        later = {lease for lease in ours if lease.workflow_id in locked}
        for lease in ours - later:
            self.workflows[lease.workflow_id].lease_until = until
        return Renewal(set(leases) - ours, later)

    def release(self, leases: Sequence[WorkflowLease], *, locked: Collection[UUID]) -> None:
        for lease in leases:
            if self._holds(lease) and lease.workflow_id not in locked:
                self.workflows[lease.workflow_id].lease_until = None

    def cancel(self, workflow_id: UUID, now: float) -> None:
        """End it, its steps and its tasks, at once.

        Raises:
            Ended: it has ended.
        """
        workflow = self.workflows[workflow_id]
        if workflow.status != "RUNNING":
            raise Ended(workflow.status)
        workflow.status, workflow.lease_until = "CANCELLED", None
        workflow.fence += 1
        for step in workflow.steps.values():
            if step.status in {"PENDING", "RUNNING"}:
                step.status = "CANCELLED"
            for task_id in step.task_ids:
                try:
                    self._tasks.cancel(UUID(task_id), now)
                except Ended:
                    continue

    def write(
        self, checkpoints: Sequence[Checkpoint], *, now: float, locked: Collection[UUID]
    ) -> list[JournalVerdict | None]:
        """Ends first, beginnings after them."""
        order = (End, Begin)
        verdicts: dict[int, JournalVerdict | None] = {}
        for number, one in sorted(enumerate(checkpoints), key=lambda pair: _place(order, pair[1].write)):
            verdicts[number] = None if one.workflow_id in locked else self._write(one, now)
        return [verdicts[number] for number in range(len(checkpoints))]

    def _write(self, checkpoint: Checkpoint, now: float) -> JournalVerdict:
        match checkpoint.write:
            case Begin() as begin:
                return self._begin(begin, checkpoint, now)
            case End() as end:
                return self._end(end)
            case Finish() as finish:
                self._finish(finish)
        return Written([])

    def _begin(self, begin: Begin, checkpoint: Checkpoint, now: float) -> JournalVerdict:
        step = self._step(begin.lease, begin.step)
        if step is None or step.status not in {"PENDING", "RUNNING"}:
            return Refused.LOST
        if step.status == "PENDING":
            step.status, step.task_ids = "RUNNING", list(begin.task_ids)
            for task in checkpoint.tasks:
                self._tasks.accept(Asked(task.id, max_retries=task.max_retries), now)
        return Written(list(step.task_ids))

    def _end(self, end: End) -> JournalVerdict:
        step = self._step(end.lease, end.step)
        if step is None:
            return Refused.LOST
        if step.status not in {"PENDING", "RUNNING"}:
            return Written([]) if step.status == end.status else Refused.LOST
        step.status, step.result, step.blocked = str(end.status), end.result, end.blocked
        return Written([])

    def _finish(self, finish: Finish) -> None:
        if not self._holds(finish.lease):
            return
        workflow = self.workflows[finish.lease.workflow_id]
        workflow.lease_until = None
        if finish.parked:
            workflow.parked = True
        else:
            failed = any(step.status in {"FAILED", "CANCELLED"} for step in workflow.steps.values())
            workflow.status = str(WorkflowStatus.FAILED if failed else WorkflowStatus.COMPLETED)

    def _holds(self, lease: WorkflowLease) -> bool:
        workflow = self.workflows[lease.workflow_id]
        return workflow.fence == lease.fence and workflow.status == "RUNNING"

    def _step(self, lease: WorkflowLease, step_id: UUID) -> ModelStep | None:
        if not self._holds(lease):
            return None
        return next(step for step in self.workflows[lease.workflow_id].steps.values() if step.id == step_id)


def _place(order: tuple[type, ...], write: object) -> int:
    return order.index(type(write)) if type(write) in order else len(order)


def _outcome(step: ModelStep) -> StepOutcome:
    if step.status == "COMPLETED":
        return StepOutcome(step.name, StepState.DONE, dict(step.result or {}))
    return StepOutcome(
        step.name, StepState.PASSED if step.status == "SKIPPED" and not step.blocked else StepState.FAILED
    )


def _step_plan(flow: Flow, step: ModelStep) -> StepPlan:
    definition = WorkflowStepDefinition.model_validate({"id": step.name, "task_type": "GENERATION"})
    task_ids = tuple(UUID(task_id) for task_id in step.task_ids)
    return StepPlan(
        flow,
        step.id,
        definition,
        step.parents,
        frozenset(),
        {},
        StepStatus(step.status),
        task_ids,
        None,
        False,
        False,
        None,
    )
