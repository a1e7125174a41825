"""From the fields of a step's tasks to their rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select

from compute.db.session import Database
from compute.db.tables import Task
from compute.events import notify
from compute.events.notify import Notifier
from compute.requests.inputs import InputSources, RequestInputs
from compute.requests.request import TaskRequest
from compute.requests.serving import Serving
from compute.requests.tenants import TenantSources, files_of
from compute.schemas.enums import TaskStatus
from compute.storage.together import for_each
from compute.tasks import store
from compute.tasks.registry import kind_of
from compute.workflows.definition.fields import required_fields
from compute.workflows.plan import StepPlan
from compute.workflows.rows.losses import missing, paths_of_tasks
from compute.workflows.steps.files import StepFiles
from compute.workflows.steps.results import content_hash

__all__ = ["PreparedStep", "StepRequests", "missing_field"]


@dataclass(frozen=True, slots=True)
class PreparedStep:
    """The requests of a step's tasks. `known` are sources that are stored already, with their paths."""

    bodies: Sequence[dict[str, Any]]
    content_hash: str
    known: Mapping[str, str]


def missing_field(plan: StepPlan, values: Mapping[str, Any]) -> str | None:
    """A field that the tasks need and that no mapping had a value for, if there is one."""
    mapped = {mapping.to_field for mapping in plan.definition.input_mappings}
    there = values.keys() | plan.definition.config.keys()
    for names in required_fields(kind_of(plan.definition.task_type)):
        if names & mapped and not names & there:
            return min(names & mapped)
    return None


@dataclass(frozen=True, slots=True)
class StepRequests:
    """Makes the tasks of steps as the API makes those of requests."""

    sources: InputSources
    serving: Serving
    database: Database
    notifier: Notifier

    def files(self, plan: StepPlan) -> StepFiles:
        return StepFiles(self._sources(plan))

    def prepared(
        self,
        plan: StepPlan,
        bodies: Sequence[dict[str, Any]],
        results: Mapping[str, Mapping[str, Any] | None],
        known: Mapping[str, str],
    ) -> PreparedStep:
        """The step's bodies with the hash of what they ask for.

        Raises:
            InvalidInput, InvalidFields: the first body cannot be accepted.
        """
        kind = kind_of(plan.definition.task_type)
        contents = dict(known)
        for result in results.values():
            outputs = (result or {}).get("outputs")
            for output in outputs if isinstance(outputs, list) else ():
                if isinstance(output, dict) and output.get("sha256"):
                    contents[output.get("path", "")] = output["sha256"]
        # A link leads to a path, and that to a content.
        contents |= {source: contents.get(path, path) for source, path in known.items()}
        served = self._request(plan, bodies[0]).served if bodies else None
        return PreparedStep(bodies, content_hash(kind, served, list(bodies), contents), known)

    async def kept(self, plan: StepPlan, prepared: PreparedStep) -> dict[UUID, Task]:
        """Tasks of an earlier attempt at this step that need not be done again: they are completed, and were asked
        for the same."""
        if plan.content_hash != prepared.content_hash or len(plan.task_ids) != len(prepared.bodies):
            return {}
        async with self.database.transaction() as session:
            tasks = await session.scalars(
                select(Task).where(
                    Task.id.in_(plan.task_ids), Task.status == TaskStatus.COMPLETED, Task.deleted_at.is_(None)
                )
            )
            completed = list(tasks)
        gone = await missing(self.sources.objects, paths_of_tasks(completed))
        return {task.id: task for task in completed if gone.isdisjoint(paths_of_tasks([task]))}

    async def tasks(self, plan: StepPlan, prepared: PreparedStep, kept: Mapping[UUID, Task]) -> list[Task]:
        """A task for every body, new or kept; their inputs are stored.

        Raises:
            InvalidInput, InvalidFields: a task cannot be accepted.
            StorageFailed: inputs could not be kept.
        """
        earlier = [kept.get(plan.task_ids[index]) if kept else None for index in range(len(prepared.bodies))]
        wanted = [body for body, task in zip(prepared.bodies, earlier, strict=True) if task is None]
        made = iter(await self._new(plan, wanted, prepared.known))
        return [next(made) if task is None else task for task in earlier]

    async def _new(self, plan: StepPlan, bodies: Sequence[dict[str, Any]], known: Mapping[str, str]) -> list[Task]:
        if not bodies:
            return []
        inputs = RequestInputs(self._sources(plan), self._request(plan, bodies[0]).served, known)

        async def new(body: dict[str, Any]) -> Task:
            return _of_workflow(await self._request(plan, body).to_row(inputs), plan)

        tasks = await for_each(bodies, new)
        await inputs.keep()
        return tasks

    async def cancel(self, task_ids: Sequence[UUID]) -> None:
        """Cancel those of the tasks that have not ended."""
        async with self.database.transaction() as session:
            cancelled = await store.cancel_all(session, task_ids)
        for task_id in cancelled:
            self.notifier.notify(notify.CANCELLED, str(task_id))

    def notify(self, tasks: Sequence[Task]) -> None:
        """Tell the Dispatcher that these wait."""
        for queue in {task.queue for task in tasks}:
            self.notifier.notify(notify.READY, queue)

    def _sources(self, plan: StepPlan) -> InputSources:
        """What the tasks of a step may name: for a workflow of a tenant's key, that tenant's files alone."""
        if (tenant := plan.flow.bound_to) is None:
            return self.sources
        return TenantSources(self.sources, files_of(tenant, self.sources.objects, self.database))

    def _request(self, plan: StepPlan, body: dict[str, Any]) -> TaskRequest:
        return TaskRequest.of(kind_of(plan.definition.task_type), body, self.serving)


def _of_workflow(task: Task, plan: StepPlan) -> Task:
    flow = plan.flow
    task.workflow_id = str(flow.id)
    task.step_id = plan.step_id
    task.max_retries = plan.definition.max_retries
    task.webhook_url = task.webhook_url or flow.webhook_url
    task.origin_instance = flow.origin_instance
    task.origin_zone = flow.origin_zone
    task.origin_reference = task.origin_reference or flow.origin_reference
    if flow.origin_tenant_id is not None:
        task.origin_tenant_id = task.tenant = flow.origin_tenant_id
    return task
