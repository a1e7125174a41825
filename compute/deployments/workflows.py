"""The workflow engine as a Serve deployment, and its step runners as async Ray actors.

Each step of a workflow is a call whose arguments are the references of its parents' calls. Ray holds it back until
those have returned, in the memory of the engine's process; no thread or process waits for it.
"""

import asyncio
import contextlib
import logging
import os
import pickle
from typing import Any
from uuid import UUID

import ray
from ray import ObjectRef, serve
from ray.exceptions import RayError

from compute.api.paths import IMAGES
from compute.db.migrations.revision import require_schema
from compute.db.session import Database
from compute.deployments.args import WorkflowArgs
from compute.deployments.process import begin_process, end_process
from compute.requests.serving import Serving
from compute.settings import get_settings
from compute.telemetry.tracing import is_traced
from compute.workflows.engine import Engine, EnginePolicy, Graph
from compute.workflows.plan import Flow, Plan, StepOutcome, StepPlan
from compute.workflows.rows.engine import PostgresEngineStore
from compute.workflows.steps.runner import StepRunner
from compute.workflows.steps.runtime import open_runner

__all__ = ["RayCompiler", "StepRunnerActor", "WorkflowDeployment"]

_log = logging.getLogger(__name__)
_STOP_SECONDS = 3.0
_STEPS_AT_ONCE = 100_000
"""Concurrent calls of one actor. Each waits for its tasks most of the time, and takes about 60 KiB."""


class StepRunnerActor:
    """A step runner in a process of its own. All its state is in the database: a replacement continues its work."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._opened = contextlib.AsyncExitStack()
        self._opening: asyncio.Task[StepRunner] | None = None

    async def run(self, plan: bytes, *parents: StepOutcome) -> StepOutcome:
        """Run a step; `plan` is a `StepPlan` packed by `RayCompiler`."""
        unpacked: StepPlan = pickle.loads(plan)  # noqa: S301 - the engine's own, of the same cluster
        return await (await self._runner()).run(unpacked, *parents)

    async def finish(self, flow: Flow, *sinks: StepOutcome) -> None:
        await (await self._runner()).finish(flow, *sinks)

    async def close(self) -> None:
        """Called before the process ends."""
        await end_process()

    async def _runner(self) -> StepRunner:
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> StepRunner:
        settings = get_settings()
        begin_process(settings)
        return await self._opened.enter_async_context(open_runner(settings, self._serving, _die, links_at=IMAGES))


def _die(error: BaseException) -> None:
    """End the process: without its loops no step would ever end. The engine compiles again on the actor's next one."""
    _log.critical("a step runner ends, because one of its loops did", exc_info=error)
    os._exit(1)


class RayCompiler:
    """Implements `compute.workflows.engine.Compiler`: graphs of calls on actors. All calls of a workflow go to one."""

    def __init__(self, serving: Serving, runners: int, owner: str) -> None:
        """`owner`: the engine, for the actors' names; it must be new, because actors outlive their engine a moment."""
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0, max_concurrency=_STEPS_AT_ONCE)(
            StepRunnerActor
        )
        names = [f"StepRunner {number} of {owner}" for number in range(1, runners + 1)]
        self._actors = [actor.options(name=name).remote(serving) for name in names]

    def launch(self, plan: Plan) -> Graph:
        actor = self._actor_for(plan.flow.id)
        calls: dict[str, StepOutcome | ObjectRef] = dict(plan.ended)
        for step in plan.steps:
            # Packed here: Ray's own serialisation costs as much as all the rest of the call.
            packed = pickle.dumps(step)
            call = actor.run.options(name=f"step {step.step_id} of {plan.flow.id}")
            calls[step.step_id] = call.remote(packed, *(calls[parent] for parent in step.parents))
        finish = actor.finish.options(name=f"end of workflow {plan.flow.id}")
        end = finish.remote(plan.flow, *(calls[sink] for sink in plan.sinks))
        return Graph(end.hex(), _returned(end))

    async def close(self) -> None:
        """Let the actors end what only observes. They end with their engine, whether or not they have answered."""
        with contextlib.suppress(RayError, TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await asyncio.gather(*(actor.close.remote() for actor in self._actors))

    def _actor_for(self, workflow_id: UUID) -> Any:
        return self._actors[workflow_id.int % len(self._actors)]


async def _returned(end: ObjectRef) -> None:
    await end


class WorkflowDeployment:
    """Runs the engine until the replica is stopped; its actors end with it."""

    async def __init__(self, args: WorkflowArgs, serving: Serving) -> None:  # type: ignore[misc]
        settings = get_settings()
        begin_process(settings)
        if not settings.database_url:
            raise ValueError("DATABASE_URL is not set")
        await asyncio.to_thread(require_schema, settings.database_url)
        self._database = Database.of(settings)
        owner = f"engine#{serve.get_replica_context().replica_id.unique_id}"
        store, policy = PostgresEngineStore(self._database), EnginePolicy(lease=settings.lease_seconds)
        self._compiler = RayCompiler(serving, args.runners, owner)
        engine = Engine(store, self._compiler, policy, owner)
        self._work = asyncio.create_task(engine.run(), name="advancing workflows")

    def check_health(self) -> None:
        """Called by Serve at intervals; an engine that ended means that this replica must be replaced.

        Raises:
            RuntimeError: it has ended.
        """
        if self._work.done():
            raise RuntimeError(f"{self._work.get_name()} has ended") from self._work.exception()

    async def __del__(self) -> None:
        """Awaited by Serve when the replica is stopped gracefully: releases the workflows."""
        self._work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._work
        await self._database.close()
        if is_traced():
            await self._compiler.close()
        await end_process()
