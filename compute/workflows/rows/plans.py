"""From the rows of claimed workflows to plans of what is left to do."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.as_sent import definition_of, values_of
from compute.db.tables import Workflow, WorkflowStep
from compute.schemas.enums import StepStatus
from compute.schemas.workflows import WorkflowStepDefinition
from compute.workflows.definition import graph
from compute.workflows.plan import CONFIG, INPUT, Flow, Plan, StepOutcome, StepPlan, StepState
from compute.workflows.states import ENDED_STEPS

__all__ = ["plans_of"]

_log = logging.getLogger(__name__)


async def plans_of(session: AsyncSession, workflow_ids: Sequence[UUID]) -> list[Plan]:
    """A plan for each of the workflows, as their rows are now; without those whose definitions this version cannot
    read, which is in the log."""
    workflows = await session.scalars(select(Workflow).where(Workflow.id.in_(workflow_ids)))
    steps: dict[UUID, list[WorkflowStep]] = defaultdict(list)
    for step in await session.scalars(
        select(WorkflowStep).where(WorkflowStep.workflow_id.in_(workflow_ids)).order_by(WorkflowStep.position)
    ):
        steps[step.workflow_id].append(step)
    plans = []
    for workflow in workflows:
        try:
            plans.append(_plan(workflow, steps[workflow.id]))
        except ValidationError as error:
            _log.error("workflow %s cannot be planned; is this an older version? %s", workflow.id, error)
    return plans


def _plan(workflow: Workflow, steps: Sequence[WorkflowStep]) -> Plan:
    flow = Flow(
        workflow.id,
        workflow.fence,
        workflow.origin_instance,
        workflow.origin_zone,
        workflow.origin_tenant_id,
        workflow.origin_reference,
        None if workflow.suppress_subtask_events else workflow.webhook_url,
        workflow.reuse,
        workflow.taken,
        workflow.traceparent,
        workflow.bound_to,
        workflow.key_id,
    )
    edges = {step.step_id: step.dependencies for step in steps}
    named = {step.step_id: step for step in steps}
    given = {INPUT: values_of(workflow)["input"], CONFIG: values_of(workflow)["config"]}
    ended = {step.step_id: _outcome(step) for step in steps if StepStatus(step.status) in ENDED_STEPS}
    left = [_step_plan(flow, named[name], given) for name in graph.walk(edges) if name not in ended]
    return Plan(flow, tuple(left), ended, tuple(graph.sinks(edges)))


def _outcome(step: WorkflowStep) -> StepOutcome:
    """The outcome of an ended step; the same as its runner handed on."""
    tolerated = bool(step.definition.get("continue_on_error"))
    match StepStatus(step.status):
        case StepStatus.COMPLETED:
            return StepOutcome(step.step_id, StepState.DONE, step.result)
        case StepStatus.SKIPPED:
            return StepOutcome(step.step_id, StepState.FAILED if step.blocked else StepState.PASSED)
        case _:
            return StepOutcome(step.step_id, StepState.PASSED if tolerated else StepState.FAILED)


def _step_plan(flow: Flow, step: WorkflowStep, given: dict[str, dict[str, Any]]) -> StepPlan:
    definition = WorkflowStepDefinition.model_validate(definition_of(step))
    sources = {mapping.from_step for mapping in definition.input_mappings}
    sources |= {definition.when.from_step} if definition.when else set()
    return StepPlan(
        flow,
        step.id,
        definition,
        tuple(step.dependencies),
        frozenset(step.spread),
        {name: values for name, values in given.items() if name in sources},
        StepStatus(step.status),
        tuple(UUID(task_id) for task_id in step.task_ids),
        step.content_hash,
        step.approved_at is not None,
        step.fresh,
        step.deadline_at,
    )
