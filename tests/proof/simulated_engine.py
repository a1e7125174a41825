"""The workflow engine's world: its stores on the model, and graphs of steps that run in this loop."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from compute.db.tables import Task
from compute.events import notify
from compute.workflows.engine import Engine, EnginePolicy, Graph
from compute.workflows.plan import Plan, StepOutcome, StepPlan
from compute.workflows.rows.journal import Checkpoint, JournalVerdict, Refused
from compute.workflows.rows.statements import Renewal, WorkflowLease
from compute.workflows.steps.journal import Journal
from compute.workflows.steps.requests import PreparedStep
from compute.workflows.steps.room import StepRoom
from compute.workflows.steps.runner import StepRunner
from compute.workflows.steps.task_ends import TaskEnds
from tests.proof.model import ENDS, Ended
from tests.proof.world import Process, forever

__all__ = ["SimulatedEngine", "SimulatedWorkflows"]

_POLICY = EnginePolicy(lease=15.0, poll=2.0, pause=1.0)


class SimulatedWorkflows:
    """Implements `EngineStore`, `JournalStore` and `EndStore` for one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._model = process.world.workflows

    async def claim(self, limit: int, *, owner: str, lease_seconds: float) -> list[Plan]:
        def claim() -> list[Plan]:
            now = self._world.database_now()
            return self._model.claim(limit, until=now + lease_seconds, now=now, locked=self._world.locked)

        return await self._process.call("claim workflows", claim, [])

    async def renew(self, leases: Sequence[WorkflowLease], *, lease_seconds: float) -> Renewal:
        def renew() -> Renewal:
            until = self._world.database_now() + lease_seconds
            return self._model.renew(leases, until=until, locked=self._world.locked)

        return (
            await self._process.call("renew workflows", renew, Renewal(set(), set()))
            if leases
            else Renewal(set(), set())
        )

    async def name_graphs(self, graphs: Mapping[WorkflowLease, str]) -> set[WorkflowLease]:
        return set()

    async def release(self, leases: Sequence[WorkflowLease]) -> None:
        await self._process.call(
            "release workflows", lambda: self._model.release(leases, locked=self._world.locked), None
        )

    async def write(self, checkpoints: Sequence[Checkpoint]) -> Sequence[JournalVerdict | None]:
        def write() -> Sequence[JournalVerdict | None]:
            return self._model.write(checkpoints, now=self._world.database_now(), locked=self._world.locked)

        names = "+".join(f"{type(one.write).__name__} {one.workflow_id.hex[:6]}" for one in checkpoints)
        return await self._process.call(f"write {names}", write, [Refused.LOST] * len(checkpoints))

    async def ended(self, task_ids: Sequence[UUID]) -> Mapping[UUID, Task | None]:
        def look() -> dict[UUID, Task | None]:
            tasks = self._world.model.tasks
            found = {task_id: tasks.get(task_id) for task_id in task_ids}
            return {
                task_id: task and _row(task_id, task.status, task.result, task.errors, task.error_category)
                for task_id, task in found.items()
                if task is None or task.status in ENDS
            }

        nobody: dict[UUID, Task | None] = {}
        return await self._process.call("look for ends", look, nobody, writes=False)

    async def listen(self, wake: Callable[[], None]) -> None:
        channels = frozenset({notify.WORKFLOW, notify.ENDED, notify.CANCELLED})
        self._world.listeners.append((self._process, channels, lambda _channel, _payload: wake()))
        await forever()

    async def close(self) -> None:
        """Nothing is open."""


class SimulatedEngine:
    """An engine with the runner of its steps, in one process."""

    def __init__(self, process: Process) -> None:
        store = SimulatedWorkflows(process)
        self._journal, self._ends = Journal(store), TaskEnds(store)
        orders: Any = _Orders(process)
        # No key has limits there.
        no_database: Any = None
        runner = StepRunner(self._journal, self._ends, orders, no_database, StepRoom(no_database))
        compiler = _Compiler(runner)
        self._calls = compiler.calls
        self._engine = Engine(store, compiler, _POLICY, process.name)

    async def run(self) -> None:
        loops = [asyncio.create_task(loop) for loop in (self._journal.run(), self._ends.run())]
        try:
            await self._engine.run()
        finally:
            # A runner dies with its process, and not a moment later.
            for work in (*self._calls, *loops):
                work.cancel()
            await asyncio.gather(*self._calls, *loops, return_exceptions=True)


class _Compiler:
    """Implements `Compiler`: a step is called when the calls before it have returned."""

    def __init__(self, runner: StepRunner) -> None:
        self._runner = runner
        self.calls: set[asyncio.Task[Any]] = set()

    def launch(self, plan: Plan) -> Graph:
        done: dict[str, asyncio.Task[StepOutcome]] = {}

        async def outcome(name: str) -> StepOutcome:
            return plan.ended[name] if name in plan.ended else await asyncio.shield(done[name])

        async def call(step: StepPlan) -> StepOutcome:
            return await self._runner.run(step, *[await outcome(parent) for parent in step.parents])

        async def finish() -> None:
            await self._runner.finish(plan.flow, *[await outcome(sink) for sink in plan.sinks])

        for step in plan.steps:
            done[step.step_id] = self._start(call(step))
        end = self._start(finish())
        return Graph(None, _until(end))

    def _start(self, work: Any) -> asyncio.Task[Any]:
        call = asyncio.create_task(work)
        self.calls.add(call)
        call.add_done_callback(self.calls.discard)
        return call


class _Orders:
    """What `StepRequests` does, for steps of one or two tasks that need nothing."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._ids = Random(process.world.chance.random())

    def files(self) -> Any:
        return SimpleNamespace(known={})

    def prepared(self, plan: StepPlan, bodies: Sequence[dict[str, Any]], _results: object, known: Any) -> PreparedStep:
        return PreparedStep(list(bodies) * (1 + plan.id.int % 2), "same", known)

    async def kept(self, _plan: StepPlan, _prepared: PreparedStep) -> dict[UUID, Task]:
        return {}

    async def tasks(self, _plan: StepPlan, prepared: PreparedStep, _kept: object) -> list[Task]:
        return [_row(UUID(int=self._ids.getrandbits(128), version=4), "PENDING") for _ in prepared.bodies]

    async def cancel(self, task_ids: Sequence[UUID]) -> None:
        def cancel() -> None:
            for task_id in task_ids:
                with contextlib.suppress(Ended):
                    self._world.model.cancel(task_id, self._world.database_now())

        await self._process.call("cancel tasks", cancel, None)

    def hint(self, tasks: Sequence[Task]) -> None:
        if self._process.alive and tasks:
            self._world.notify(notify.READY, "inference")


async def _until(end: asyncio.Task[None]) -> None:
    """Who waits for the graph may go away without it."""
    await asyncio.shield(end)


def _row(
    task_id: UUID,
    status: str,
    result: Any = None,
    errors: Sequence[str] = (),
    category: str | None = None,
) -> Task:
    return Task(
        id=task_id,
        task_type="GENERATION",
        status=status,
        spec={},
        result=result,
        errors=list(errors),
        error_category=category,
        retry_count=0,
    )
