"""Results of earlier steps that were asked for the same."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select

from compute.db.session import Database
from compute.db.tables import Task, Workflow, WorkflowStep
from compute.storage.base import ObjectStore
from compute.workflows.plan import StepPlan
from compute.workflows.rows.losses import missing, paths_of_tasks
from compute.workflows.steps.requests import PreparedStep

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

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    async def find(self, plan: StepPlan, prepared: PreparedStep) -> Earlier | None:
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
            candidates = rows.all()
        for step, task_ids, result, reused_from in candidates:
            if task_ids and await self._is_whole(task_ids):
                return Earlier(reused_from or step, task_ids, result)
        return None

    async def _is_whole(self, task_ids: list[str]) -> bool:
        async with self._database.transaction() as session:
            wanted = [UUID(task_id) for task_id in task_ids]
            found = await session.scalars(select(Task).where(Task.id.in_(wanted), Task.deleted_at.is_(None)))
            tasks = list(found)
        return len(tasks) == len(task_ids) and not await missing(self._objects, paths_of_tasks(tasks))
