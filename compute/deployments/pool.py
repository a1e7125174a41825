"""A pool of Serve replicas, as the Dispatcher sees it."""

from collections.abc import AsyncGenerator

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.handle import DeploymentHandle

from compute.deployments.args import PoolArgs
from compute.errors import TaskFailed
from compute.tasks.protocol import Job, WorkEvent

__all__ = ["ServePool"]


class ServePool:
    """Implements `compute.dispatch.pool.Pool` over a deployment handle. `running` is kept up to date outside."""

    executor_type = "ray-serve"

    def __init__(self, args: PoolArgs, handle: DeploymentHandle) -> None:
        self.name = args.name
        self.queue = args.queue
        self.running = 0
        self._reserved = args.reserved_tasks
        self._handle = handle.options(stream=True)

    def capacity(self) -> int:
        return self.running + self._reserved if self.running else 0

    def ready(self) -> int:
        return self.running

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        """Stream the job's events from a replica.

        Raises:
            TaskFailed: the replica died.
        """
        stream = self._handle.run.remote(job)
        try:
            async for event in stream:
                yield event
        except RayTaskError as error:
            raise error.cause from None
        except RayActorError as error:
            raise TaskFailed(f"The replica that ran it died: {type(error).__name__}.") from None
        finally:
            stream.cancel()
