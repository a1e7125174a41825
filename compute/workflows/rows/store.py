"""Workflows as the API reads and changes them: one transaction each, opened by the caller.

Whoever changes a workflow locks its row. A change that an engine must not miss raises the fence, frees the lease and
unparks: the next engine that looks compiles what is left to do, and what the last one still reports is dropped.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.as_sent import kept_as_sent, values_of
from compute.db.keys import lock_row
from compute.db.tables import Workflow, WorkflowEvent, WorkflowStep
from compute.errors import Conflict, NotFound
from compute.events.outbox.workflows import CALL_BACK_WORKFLOWS
from compute.schemas.enums import EventType, StepStatus, WorkflowStatus
from compute.schemas.tasks import FREE_FIELDS
from compute.schemas.workflows import CreateWorkflow, WorkflowStepDefinition
from compute.tasks import store
from compute.tasks.ids import new_task_id
from compute.telemetry.tracing import current_traceparent
from compute.workflows.definition import graph
from compute.workflows.definition.check import CheckedWorkflow
from compute.workflows.states import (
    ENDED_STEPS,
    ENDED_WORKFLOWS,
    OPEN_WORKFLOWS,
    STEP_TRANSITIONS,
    WORKFLOW_TRANSITIONS,
)

__all__ = ["Resumed", "approve", "cancel", "create", "pause", "resume", "start", "steps_of"]

_SENT = (*FREE_FIELDS, "when")
_FAILED_STEPS = frozenset({StepStatus.FAILED, StepStatus.CANCELLED})
_TO_LET = {"lease_owner": None, "lease_expires_at": None, "parked": False}
"""What an engine may claim at once."""


async def create(
    session: AsyncSession,
    definition: CreateWorkflow,
    checked: CheckedWorkflow,
    *,
    taken: Mapping[str, str] | None,
    bound_to: str | None = None,
    key_id: UUID | None = None,
) -> Workflow:
    """Store a workflow; with `taken`, which are the sources of its first steps, it is RUNNING at once. Its steps see
    the files of the tenant alone to which it is bound, if it is to any. `key_id`: whose limits it counts against."""
    workflow = Workflow(
        id=new_task_id(),
        status=WorkflowStatus.PENDING,
        final_step_id=checked.final_step_id,
        input=definition.input or {},
        taken={},
        bound_to=bound_to,
        key_id=key_id,
        errors=[],
        traceparent=current_traceparent(),
        sent=kept_as_sent({"config": definition.config, "input": definition.input or {}}),
        **definition.model_dump(exclude={"steps", "input"}),
    )
    session.add(workflow)
    await session.flush()
    steps = [
        {
            "id": new_task_id(),
            "workflow_id": workflow.id,
            "position": position,
            "step_id": step.definition.id,
            "task_type": step.definition.task_type,
            **_columns(step.definition),
            "dependencies": list(step.dependencies),
            "spread": sorted(step.spread),
            "status": StepStatus.PENDING,
        }
        for position, step in enumerate(checked.steps)
    ]
    await session.execute(insert(WorkflowStep), steps)
    await _log(session, workflow)
    if taken is not None:
        await _start(session, workflow, taken)
    return workflow


def _columns(step: WorkflowStepDefinition) -> dict[str, dict[str, Any] | None]:
    """The columns of a definition: as we read it, and the caller's own parts as they were sent."""
    definition = step.model_dump(mode="json")
    return {"definition": definition, "sent": kept_as_sent({name: definition[name] for name in _SENT})}


async def steps_of(session: AsyncSession, workflow_ids: Iterable[UUID]) -> list[WorkflowStep]:
    """The steps of workflows, each workflow's in the order of its definition."""
    rows = await session.scalars(
        select(WorkflowStep)
        .where(WorkflowStep.workflow_id.in_(list(workflow_ids)))
        .order_by(WorkflowStep.workflow_id, WorkflowStep.position),
        execution_options={"populate_existing": True},
    )
    return list(rows)


async def start(
    session: AsyncSession,
    workflow_id: UUID,
    definition: CreateWorkflow,
    checked: CheckedWorkflow,
    taken: Mapping[str, str],
    key_id: UUID | None = None,
) -> Workflow:
    """PENDING → RUNNING with the input that `definition` has by now, checked again. `key_id`: as for `create`.

    Raises:
        NotFound: there is no such workflow.
        Conflict: it was started before.
    """
    workflow = await lock_row(session, Workflow, workflow_id)
    require_not_deleted(workflow)
    _require(workflow, WorkflowStatus.RUNNING, only_from={WorkflowStatus.PENDING})
    values = values_of(workflow) | {"input": definition.input or {}}
    workflow.input, workflow.sent = values["input"], kept_as_sent(values)
    for row, step in zip(await steps_of(session, [workflow_id]), checked.steps, strict=True):
        for name, value in _columns(step.definition).items():
            setattr(row, name, value)
        row.dependencies, row.spread = list(step.dependencies), sorted(step.spread)
    workflow.key_id = key_id
    await _start(session, workflow, taken)
    return workflow


async def pause(session: AsyncSession, workflow_id: UUID) -> Workflow:
    """RUNNING → PAUSED: what runs may end, nothing new begins.

    Raises:
        NotFound: there is no such workflow.
        Conflict: it is not running.
    """
    workflow = await lock_row(session, Workflow, workflow_id)
    await _move(session, workflow, WorkflowStatus.PAUSED)
    return workflow


@dataclass(frozen=True, slots=True)
class Resumed:
    """A workflow that goes on.

    Attributes:
        cancelled: The tasks that were cancelled, because their steps start anew.
        again: The steps that had tasks, and are run again.
    """

    workflow: Workflow
    cancelled: list[UUID]
    again: list[UUID]


async def resume(
    session: AsyncSession,
    workflow_id: UUID,
    from_step: str | None,
    *,
    lost: Collection[str] = (),
    key_id: UUID | None = None,
) -> Resumed:
    """FAILED or PAUSED → RUNNING: what failed is tried again, what has ended well stays. With `from_step` that step
    and all behind it are run again, also of a COMPLETED workflow. Of the steps whose files are `lost` those are run
    again from which something that is left to do takes. `key_id`: as for `create`.

    Raises:
        NotFound: there is no such workflow, or no such step.
        Conflict: its status forbids it.
    """
    workflow = await lock_row(session, Workflow, workflow_id)
    require_not_deleted(workflow)
    allowed = {WorkflowStatus.FAILED, WorkflowStatus.PAUSED}
    _require(workflow, WorkflowStatus.RUNNING, only_from=allowed | ({WorkflowStatus.COMPLETED} if from_step else set()))
    steps = await steps_of(session, [workflow_id])
    again = _again(steps, from_step)
    running = [task for step in steps if step.step_id in again for task in _running_tasks(step)]
    # Workflows, then steps, then tasks: everybody locks in this order.
    await _stop(session, [step for step in steps if step.step_id in again and step.status == StepStatus.RUNNING])
    cancelled = await store.cancel_all(session, running)
    redone = _to_redo(steps, again, lost)
    put_back = [step for step in steps if step.step_id in again | redone or _counts_as_failed(step)]
    ended = [step for step in put_back if step.status != StepStatus.PENDING]
    had_tasks = [step.id for step in ended if step.task_ids]
    for step in put_back:
        if step.step_id in again:
            _forget_results(step, anew=step.step_id == from_step, keep=workflow.reuse)
        elif step.step_id in redone:
            step.task_ids, step.content_hash, step.result, step.fresh = [], None, None, True
        _put_back(step)
    await _log_steps(session, ended)
    workflow.errors, workflow.completed_at = [], None
    workflow.fence += 1
    workflow.key_id = key_id
    await _move(session, workflow, WorkflowStatus.RUNNING, **_TO_LET)
    return Resumed(workflow, cancelled, had_tasks)


async def cancel(session: AsyncSession, workflow_id: UUID) -> tuple[Workflow, list[UUID]]:
    """End a workflow, its steps and their tasks. Returns the workflow and the tasks that were cancelled.

    Raises:
        NotFound: there is no such workflow.
        Conflict: it has already ended.
    """
    workflow = await lock_row(session, Workflow, workflow_id)
    if WorkflowStatus(workflow.status) in ENDED_WORKFLOWS:
        raise Conflict(f"Workflow {workflow_id} is {workflow.status} and cannot become CANCELLED.")
    steps = [
        step
        for step in await steps_of(session, [workflow_id])
        if StepStatus(step.status) in (StepStatus.PENDING, StepStatus.RUNNING)
    ]
    running = [task for step in steps for task in _running_tasks(step)]
    await _stop(session, steps)
    cancelled = await store.cancel_all(session, running)
    workflow.fence += 1
    await _move(session, workflow, WorkflowStatus.CANCELLED, completed_at=datetime.now(UTC), **_TO_LET)
    connection = await session.connection()
    await connection.exec_driver_sql(
        f"WITH moved AS (SELECT * FROM workflows WHERE id = %(id)s) {CALL_BACK_WORKFLOWS}",  # noqa: S608
        {"id": workflow_id},
    )
    return workflow, cancelled


async def approve(session: AsyncSession, workflow_id: UUID, step_id: str) -> Workflow:
    """Let a step run that requires it, now or when its turn comes. Doing it again changes nothing.

    Raises:
        NotFound: there is no such workflow or step.
        Conflict: the step needs no approval, has ended, or the workflow has.
    """
    workflow = await lock_row(session, Workflow, workflow_id)
    step = next((step for step in await steps_of(session, [workflow_id]) if step.step_id == step_id), None)
    if step is None:
        raise NotFound(f"Workflow {workflow_id} has no step `{step_id}`.")
    if not step.definition["requires_approval"]:
        raise Conflict(f"Step `{step_id}` does not wait for approval.")
    if step.approved_at is not None:
        return workflow
    if step.status != StepStatus.PENDING or WorkflowStatus(workflow.status) in ENDED_WORKFLOWS:
        raise Conflict(f"Step `{step_id}` is {step.status} in a workflow that is {workflow.status}.")
    now = datetime.now(UTC)
    step.approved_at = step.updated_at = workflow.updated_at = now
    step.awaits_approval = False
    await _log_steps(session, [step], {"approved": True})
    if WorkflowStatus(workflow.status) in OPEN_WORKFLOWS:
        # Whoever holds it planned without the approval.
        workflow.fence += 1
        for name, value in _TO_LET.items():
            setattr(workflow, name, value)
        await session.flush()
    return workflow


def require_not_deleted(workflow: Workflow) -> None:
    """Raises:
    Conflict: it was cleaned up.
    """
    if workflow.deleted_at is not None:
        raise Conflict(f"Workflow {workflow.id} was cleaned up.")


async def _start(session: AsyncSession, workflow: Workflow, taken: Mapping[str, str]) -> None:
    workflow.taken = dict(taken)
    await _move(session, workflow, WorkflowStatus.RUNNING, started_at=datetime.now(UTC))


def _require(workflow: Workflow, status: WorkflowStatus, *, only_from: set[WorkflowStatus] | None = None) -> None:
    present = WorkflowStatus(workflow.status)
    if status not in WORKFLOW_TRANSITIONS[present] or (only_from is not None and present not in only_from):
        raise Conflict(f"Workflow {workflow.id} is {present} and cannot become {status} like this.")


async def _move(session: AsyncSession, workflow: Workflow, status: WorkflowStatus, **values: Any) -> None:
    _require(workflow, status)
    for name, value in values.items():
        setattr(workflow, name, value)
    workflow.status, workflow.updated_at = status, datetime.now(UTC)
    await session.flush()
    await _log(session, workflow)


async def _stop(session: AsyncSession, steps: Sequence[WorkflowStep]) -> None:
    """→ CANCELLED; their tasks are the caller's to cancel."""
    for step in steps:
        _enter(step, StepStatus.CANCELLED)
        step.completed_at, step.awaits_approval = step.updated_at, False
    await _log_steps(session, steps)


def _enter(step: WorkflowStep, status: StepStatus) -> None:
    """Change a step's status as the table allows it.

    Raises:
        Conflict: it does not.
    """
    if status not in STEP_TRANSITIONS[StepStatus(step.status)]:
        raise Conflict(f"Step `{step.step_id}` is {step.status} and cannot become {status}.")
    step.status, step.updated_at = status, datetime.now(UTC)


async def _log(session: AsyncSession, workflow: Workflow) -> None:
    session.add(WorkflowEvent(workflow_id=workflow.id, type=EventType.WORKFLOW_STATUS, status=workflow.status))
    await session.flush()


async def _log_steps(session: AsyncSession, steps: Sequence[WorkflowStep], data: dict[str, Any] | None = None) -> None:
    await session.flush()
    for step in steps:
        session.add(
            WorkflowEvent(
                workflow_id=step.workflow_id,
                type=EventType.STEP_STATUS,
                step_id=step.step_id,
                status=step.status,
                data=data,
            )
        )
    await session.flush()


def _again(steps: Sequence[WorkflowStep], from_step: str | None) -> set[str]:
    """The steps that are run anew whatever became of them.

    Raises:
        NotFound: there is no such step.
    """
    if from_step is None:
        return set()
    edges = {step.step_id: step.dependencies for step in steps}
    if from_step not in edges:
        raise NotFound(f"There is no step `{from_step}`; there are: {', '.join(edges)}.")
    return graph.descendants(edges, from_step)


def _to_redo(steps: Sequence[WorkflowStep], again: set[str], lost: Collection[str]) -> set[str]:
    """The completed steps of which something is lost that is needed for what is left to do."""
    named = {step.step_id: step for step in steps}
    left = [
        step.step_id
        for step in steps
        if step.step_id in again or _counts_as_failed(step) or StepStatus(step.status) not in ENDED_STEPS
    ]
    redone: set[str] = set()
    for step_id in left:
        for parent in named[step_id].dependencies:
            completed = named[parent].status == StepStatus.COMPLETED and parent not in again
            if completed and parent in lost and parent not in redone:
                redone.add(parent)
                left.append(parent)
    return redone


def _running_tasks(step: WorkflowStep) -> list[UUID]:
    return [UUID(task_id) for task_id in step.task_ids] if step.status == StepStatus.RUNNING else []


def _counts_as_failed(step: WorkflowStep) -> bool:
    """Whether the workflow could not be completed because of it. Of tolerated failures others have made the best."""
    tolerated = step.definition["continue_on_error"]
    return step.blocked or (StepStatus(step.status) in _FAILED_STEPS and not tolerated)


def _forget_results(step: WorkflowStep, *, anew: bool, keep: bool) -> None:
    """It is run again. What it made before may be taken over only if that is wanted and it is not the very first."""
    if anew or not keep:
        step.task_ids, step.content_hash, step.result = [], None, None
    step.fresh, step.approved_at = anew, None


def _put_back(step: WorkflowStep) -> None:
    """Try it again; those of its tasks that are completed need not be."""
    if step.status != StepStatus.PENDING:
        _enter(step, StepStatus.PENDING)
    step.blocked = step.awaits_approval = False
    step.error_message = step.error_category = step.completed_at = step.deadline_at = step.started_at = None
    step.reused_from, step.retry_count = None, 0
