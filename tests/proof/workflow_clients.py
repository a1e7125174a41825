"""Simulated clients of workflows: they start one, look at it, and some cancel it."""

from collections.abc import Callable
from random import Random
from uuid import UUID

from compute.db.away import DatabaseAway
from compute.events import notify
from tests.proof.clock import pause
from tests.proof.history import Accepted, Cancelled, StepSeen, WorkflowSeen
from tests.proof.model import ENDS, Ended
from tests.proof.workflow_model import ModelStep, ModelWorkflow
from tests.proof.world import Process, World

__all__ = ["WorkflowClient", "look_at_workflows"]


class WorkflowClient:
    """One workflow's: from its start until its end."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self._process = Process(world, f"workflow-client-{number}")
        self._chance = Random(world.chance.random())
        self._workflow = _drawn(self._chance)

    async def run(self) -> None:
        """The workflow ends, or the world does."""
        world, chance = self.world, self._chance
        await pause(chance.uniform(0, 15))
        while not world.over and self._workflow.id not in world.workflows.workflows:
            await self._patiently("start", lambda: world.workflows.start(self._workflow))
        world.notify(notify.WORKFLOW, str(self._workflow.id))
        if chance.random() < world.weather.cancels:
            await pause(chance.uniform(0, 20))
            await self._cancel()
        while not world.over and self._workflow.status not in ENDS:
            await self._patiently("look at", lambda: _look(world, self._workflow), writes=False)
            await pause(chance.uniform(0.5, 5))

    async def _cancel(self) -> None:
        world = self.world

        def cancel() -> None:
            try:
                world.workflows.cancel(self._workflow.id, world.database_now())
            except Ended:
                return
            world.tell(f"workflow {self._workflow.id.hex[:6]} is cancelled")
            # Known to the client a moment later, and true from now on.
            _look(world, self._workflow)
            for step in self._workflow.steps.values():
                for task_id in step.task_ids:
                    if world.model.get(UUID(task_id)).status == "CANCELLED":
                        world.history.note(Cancelled(at=world.now(), task=task_id))

        await self._patiently("cancel", cancel)

    async def _patiently(self, what: str, effect: Callable[[], None], *, writes: bool = True) -> None:
        rows = frozenset({self._workflow.id}) if writes else frozenset()
        try:
            await self._process.call(f"{what} {self._workflow.id.hex[:6]}", effect, None, rows=rows, writes=writes)
        except DatabaseAway:
            await pause(self._chance.uniform(0.1, 2))


def look_at_workflows(world: World) -> None:
    for workflow in world.workflows.workflows.values():
        _look(world, workflow)


def _look(world: World, workflow: ModelWorkflow) -> None:
    steps = {step.name: StepSeen(step.status, tuple(step.task_ids), step.parents) for step in workflow.steps.values()}
    for step in workflow.steps.values():
        for task_id in step.task_ids:
            world.history.note(Accepted(at=world.now(), task=task_id))
    world.history.note(WorkflowSeen(at=world.now(), task=f"w-{workflow.id}", status=workflow.status, steps=steps))


def _drawn(chance: Random) -> ModelWorkflow:
    """Up to four steps, each behind some of those before it."""
    steps: dict[str, ModelStep] = {}
    for number in range(chance.randint(1, 4)):
        parents = tuple(name for name in steps if chance.random() < 0.6)
        step_id = UUID(int=chance.getrandbits(128), version=4)
        steps[f"s{number}"] = ModelStep(step_id, f"s{number}", parents)
    return ModelWorkflow(UUID(int=chance.getrandbits(128), version=4), steps)
