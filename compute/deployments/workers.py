"""GPU-pinned replicas that hold a warm pipeline and run jobs. They never touch the database."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from ray import serve

from compute.deployments.args import PoolArgs
from compute.deployments.logs import configure_logging
from compute.deployments.workbench import LocalWorkbench
from compute.settings import get_settings
from compute.storage.factory import open_store
from compute.tasks.protocol import GenerateRequest, Job, WorkEvent
from compute.tasks.registry import kind_of

__all__ = ["PipelineWorker"]

_WARM_UP = GenerateRequest(prompt="warm up", width=64, height=64, steps=1, guidance_scale=1.0, seed=0)


class PipelineWorker:
    """One replica of a pool. It is ready once it has drawn its first image."""

    def __init__(self, args: PoolArgs) -> None:
        # The pipeline libraries take seconds to import; only replicas of this class pay for them.
        from compute.pipelines import load

        settings = get_settings()
        configure_logging(settings)
        model = load(args.model, settings.models_root)
        model.generate(_WARM_UP, lambda done, total: None)
        replica = serve.get_replica_context().replica_id.unique_id
        self._objects = open_store(settings)
        self._bench = LocalWorkbench(settings, self._objects, model, f"{args.name}#{replica}")

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        """Run one job; closing the stream stops it at its next denoising step."""
        async with aclosing(kind_of(job.task_type).run(job, self._bench)) as events:
            async for event in events:
                yield event
