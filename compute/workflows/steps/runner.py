"""One step of a workflow, from the outcomes of its parents to its own. Knows no Ray.

    parents' outcomes → skip? hold? → fields → tasks, RUNNING → their ends → result, COMPLETED

Whatever is killed in between, the next runner finds in the step's row how far it came: a RUNNING step has its tasks,
and is only waited for.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from compute.db.away import DatabaseAway
from compute.db.tables import Task
from compute.schemas.enums import ErrorCategory, StepStatus, TaskStatus
from compute.tasks.registry import kind_of
from compute.telemetry.ids import bound
from compute.telemetry.tracing import span
from compute.workflows.definition.body import static_body
from compute.workflows.definition.mapping import bodies, holds, mapped_values
from compute.workflows.plan import Flow, StepOutcome, StepPlan, StepState
from compute.workflows.rows.statements import Begin, End, Finish, Hold, WorkflowLease
from compute.workflows.steps.failures import StepFailed, failure_of
from compute.workflows.steps.journal import Journal, Lost, Paused
from compute.workflows.steps.patience import patiently
from compute.workflows.steps.requests import PreparedStep, StepRequests, missing_field
from compute.workflows.steps.results import result_of
from compute.workflows.steps.reuse import Earlier, Reuse
from compute.workflows.steps.room import StepRoom
from compute.workflows.steps.task_ends import TaskEnds

__all__ = ["StepRunner"]

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class StepRunner:
    """Runs steps, any number at a time; between two awaits none of them costs anything but memory."""

    journal: Journal
    ends: TaskEnds
    requests: StepRequests
    reuse: Reuse
    room: StepRoom

    async def run(self, plan: StepPlan, *parents: StepOutcome) -> StepOutcome:
        """Run a step to its end, which is in its row when this returns. Raises nothing but what is a bug."""
        flow = plan.flow
        with (
            bound(workflow_id=flow.id, step_id=plan.step_id),
            span(
                f"step {plan.definition.task_type}",
                parent=flow.traceparent,
                compute__workflow__id=str(flow.id),
                compute__workflow__step=plan.step_id,
            ) as running,
        ):
            try:
                outcome = await self._run(plan, parents)
            except Lost:
                outcome = StepOutcome(plan.step_id, StepState.GONE)
            except Paused:
                outcome = StepOutcome(plan.step_id, StepState.PARKED)
            running.set(compute__outcome=outcome.state.value)
            _log.info("step ended: %s", outcome.state.value)
            return outcome

    async def finish(self, flow: Flow, *sinks: StepOutcome) -> None:
        """Write the workflow's end once the steps have ended that are the last ones of their branches."""
        states = {sink.state for sink in sinks}
        if StepState.GONE not in states:
            with bound(workflow_id=flow.id), span("finish workflow", parent=flow.traceparent):
                await self.journal.finish(Finish(_lease(flow), parked=StepState.PARKED in states))
                _log.info("workflow %s", "waits" if StepState.PARKED in states else "ended")

    async def _run(self, plan: StepPlan, parents: Sequence[StepOutcome]) -> StepOutcome:
        states = {parent.state for parent in parents}
        if StepState.GONE in states:
            raise Lost
        if StepState.FAILED in states:
            return await self._block(plan, parents)
        if StepState.PARKED in states:
            raise Paused
        results = {**plan.given, **{parent.step_id: parent.result for parent in parents}}
        while True:
            try:
                if plan.status is StepStatus.RUNNING:
                    return await self._wait(plan, plan.task_ids)
                return await self._begin(plan, results)
            except (Lost, Paused):
                raise
            except DatabaseAway as error:
                # Waited for where it is met; if that was forgotten somewhere, the step begins again.
                _log.warning("a step begins again, the database is out of reach: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception as error:
                return await self._fail(plan, failure_of(error))

    async def _begin(self, plan: StepPlan, results: Mapping[str, dict[str, Any] | None]) -> StepOutcome:
        prepared = await self._prepare(plan, results)
        if isinstance(prepared, str):
            return await self._pass(plan, prepared)
        if plan.definition.requires_approval and not plan.approved:
            await self.journal.hold(Hold(_lease(plan.flow), plan.id))
            raise Paused
        if plan.flow.reuse and not plan.fresh and (earlier := await patiently(self.reuse.find, plan, prepared)):
            return await self._take_over(plan, earlier, prepared)
        if not prepared.bodies:
            return await self._complete(plan, [], prepared.content_hash)
        return await self._launch(plan, prepared)

    async def _prepare(self, plan: StepPlan, results: Mapping[str, dict[str, Any] | None]) -> PreparedStep | str:
        """The requests of the step's tasks, or the reason why the step is not run.

        Raises:
            ComputeError, InvalidFields: its fields cannot be had, or would not be accepted.
        """
        step, files = plan.definition, self.requests.files(plan)
        if step.when is not None and not holds(step.when, results):
            return f"Its condition on {step.when.from_step}.{step.when.from_field} does not hold."
        values = await patiently(mapped_values, step.input_mappings, results, files)
        if missing := missing_field(plan, values):
            return f"{missing} has no value, because the steps before have none."
        made = bodies(static_body(step), values, plan.spread)
        return self.requests.prepared(plan, made, results, known={**plan.flow.taken, **files.known})

    async def _launch(self, plan: StepPlan, prepared: PreparedStep) -> StepOutcome:
        kept = await patiently(self.requests.kept, plan, prepared)
        await self.room.take(plan, len(prepared.bodies) - len(kept))
        tasks = await patiently(self.requests.tasks, plan, prepared, kept)
        new = [task for task in tasks if task.id not in kept]
        begin = Begin(
            _lease(plan.flow),
            plan.id,
            [str(task.id) for task in tasks],
            prepared.content_hash,
            plan.definition.timeout_seconds,
        )
        task_ids = await self.journal.begin(begin, new)
        self.requests.notify(new)
        _log.info("step begun with tasks %s", ", ".join(task_ids))
        timeout = plan.definition.timeout_seconds
        begun = replace(plan, deadline_at=datetime.now(UTC) + timedelta(seconds=timeout) if timeout else None)
        return await self._wait(begun, [UUID(task_id) for task_id in task_ids])

    async def _wait(self, plan: StepPlan, task_ids: Sequence[UUID]) -> StepOutcome:
        late: ErrorCategory | None = None
        try:
            async with asyncio.timeout(_seconds_left(plan)):
                ended = await self.ends.of(task_ids)
        except TimeoutError:
            late = ErrorCategory.PROVIDER_TIMEOUT
            await patiently(self.requests.cancel, task_ids)
            ended = await self.ends.of(task_ids)
        tasks = [task for task in ended if task is not None]
        done = [task for task in tasks if task.status == TaskStatus.COMPLETED]
        if len(done) == len(task_ids) or (done and not late and plan.definition.continue_on_error):
            return await self._complete(plan, done)
        if late:
            failure = StepFailed(late, f"It took longer than its {plan.definition.timeout_seconds:g} s.")
            return await self._fail(plan, failure, tasks)
        return await self._fail(plan, _failure_of(tasks, len(task_ids)), tasks)

    async def _complete(self, plan: StepPlan, tasks: Sequence[Task], content_hash: str | None = None) -> StepOutcome:
        result = result_of(kind_of(plan.definition.task_type), tasks, many=bool(plan.spread))
        retries = sum(task.retry_count for task in tasks)
        await self.journal.end(
            End(
                _lease(plan.flow),
                plan.id,
                StepStatus.COMPLETED,
                result=result,
                retry_count=retries,
                content_hash=content_hash,
            )
        )
        return StepOutcome(plan.step_id, StepState.DONE, result)

    async def _take_over(self, plan: StepPlan, earlier: Earlier, prepared: PreparedStep) -> StepOutcome:
        await self.journal.end(
            End(
                _lease(plan.flow),
                plan.id,
                StepStatus.COMPLETED,
                result=earlier.result,
                task_ids=earlier.task_ids,
                content_hash=prepared.content_hash,
                reused_from=earlier.step,
            )
        )
        return StepOutcome(plan.step_id, StepState.DONE, earlier.result)

    async def _pass(self, plan: StepPlan, reason: str) -> StepOutcome:
        await self.journal.end(End(_lease(plan.flow), plan.id, StepStatus.SKIPPED, message=reason))
        return StepOutcome(plan.step_id, StepState.PASSED)

    async def _block(self, plan: StepPlan, parents: Sequence[StepOutcome]) -> StepOutcome:
        failed = ", ".join(parent.step_id for parent in parents if parent.state is StepState.FAILED)
        message = f"Not run, because of {failed}."
        await self.journal.end(End(_lease(plan.flow), plan.id, StepStatus.SKIPPED, message=message, blocked=True))
        return StepOutcome(plan.step_id, StepState.FAILED)

    async def _fail(self, plan: StepPlan, failure: StepFailed, tasks: Sequence[Task] = ()) -> StepOutcome:
        cancelled = failure.category is ErrorCategory.CANCELLED
        await self.journal.end(
            End(
                _lease(plan.flow),
                plan.id,
                StepStatus.CANCELLED if cancelled else StepStatus.FAILED,
                message=failure.message,
                category=failure.category,
                retry_count=sum(task.retry_count for task in tasks),
            )
        )
        return StepOutcome(plan.step_id, StepState.PASSED if plan.definition.continue_on_error else StepState.FAILED)


def _lease(flow: Flow) -> WorkflowLease:
    return WorkflowLease(flow.id, flow.fence)


def _seconds_left(plan: StepPlan) -> float | None:
    if plan.deadline_at is None:
        return None
    return max((plan.deadline_at - datetime.now(UTC)).total_seconds(), 0.0)


def _failure_of(tasks: Sequence[Task], count: int) -> StepFailed:
    """The failure of a step whose tasks ended like this; the first failure speaks for all."""
    failed = next((task for task in tasks if task.status == TaskStatus.FAILED), None)
    if failed is not None:
        message = failed.errors[-1] if failed.errors else "A task failed and does not say why."
        category = ErrorCategory(failed.error_category or ErrorCategory.INTERNAL)
    elif len(tasks) < count:
        category, message = ErrorCategory.CANCELLED, "A task of it was deleted."
    else:
        category, message = ErrorCategory.CANCELLED, "A task of it was cancelled."
    others = sum(task.status != TaskStatus.COMPLETED for task in tasks) - 1
    return StepFailed(
        category, message + (f" ({others} more of {count} tasks did not complete.)" if others > 0 else "")
    )
