"""What an engine of the tests runs with: quick times, a painter's queues, and a compiler without Ray.

Its graphs are asyncio tasks: what Ray's references are to the actor's calls, awaiting is here.
"""

import asyncio

from compute.requests.serving import ServedModel, Serving
from compute.workflows.engine import EnginePolicy, Graph
from compute.workflows.plan import Plan, StepOutcome, StepPlan
from compute.workflows.steps.runner import StepRunner

SERVING = Serving(
    {
        "inference": ServedModel("painter", 16),
        "refine": ServedModel("painter", 16),
        "image": ServedModel(None, 1, queue="image", roles=frozenset()),
    }
)
QUICK = EnginePolicy(lease=1, poll=0.1, pause=0.05)


class LocalCompiler:
    """Every step is a task that awaits those of its parents."""

    def __init__(self, runner: StepRunner) -> None:
        self._runner = runner

    def launch(self, plan: Plan) -> Graph:
        calls: dict[str, asyncio.Future[StepOutcome]] = {}
        for step_id, outcome in plan.ended.items():
            calls[step_id] = asyncio.get_running_loop().create_future()
            calls[step_id].set_result(outcome)
        for step in plan.steps:
            calls[step.step_id] = asyncio.create_task(self._run(step, [calls[parent] for parent in step.parents]))
        return Graph("local", asyncio.create_task(self._finish(plan, [calls[sink] for sink in plan.sinks])))

    async def _run(self, step: StepPlan, parents: list[asyncio.Future[StepOutcome]]) -> StepOutcome:
        return await self._runner.run(step, *[await parent for parent in parents])

    async def _finish(self, plan: Plan, sinks: list[asyncio.Future[StepOutcome]]) -> None:
        await self._runner.finish(plan.flow, *[await sink for sink in sinks])
