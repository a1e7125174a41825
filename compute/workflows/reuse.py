"""Results of earlier steps that were asked for the same."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from compute.db.session import Database
from compute.db.tables import Task, Workflow, WorkflowStep
from compute.workflows.orders import Prepared
from compute.workflows.plan import StepPlan

__all__ = ["Earlier", "Reuse"]

_CANDIDATES = 5


@dataclass(frozen=True, slots=True)
class Earlier:
    """A completed step whose result may be taken over."""

    step: UUID
    task_ids: list[str]
    result: dict[str, Any]


class Reuse:
    """Looks for them among the steps of the same tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, plan: StepPlan, prepared: Prepared) -> Earlier | None:
        """The latest step that was asked for the same and whose files nobody has removed; it may be this very one,
        when its workflow is run again."""
        async with self._database.transaction() as session:
            rows = await session.execute(
                select(WorkflowStep.id, WorkflowStep.task_ids, WorkflowStep.result, WorkflowStep.reused_from)
                .join(Workflow, Workflow.id == WorkflowStep.workflow_id)
                .where(
                    WorkflowStep.content_hash == prepared.content_hash,
                    WorkflowStep.result.is_not(None),
                    Workflow.origin_tenant_id.is_not_distinct_from(plan.flow.origin_tenant_id),
                )
                .order_by(WorkflowStep.completed_at.desc())
                .limit(_CANDIDATES)
            )
            for step, task_ids, result, reused_from in rows.all():
                there = await session.scalar(
                    select(func.count()).where(
                        Task.id.in_([UUID(task_id) for task_id in task_ids]), Task.deleted_at.is_(None)
                    )
                )
                if there == len(task_ids) > 0:
                    return Earlier(reused_from or step, task_ids, result)
        return None
