"""The Dispatcher's view of a pool of Serve replicas, and of the standbys that stand in for missing ones."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from compute.deployments.args import PoolArgs
from compute.errors import WorkerLost
from compute.worker.protocol import Job, Started, WorkEvent

__all__ = ["ServePool"]

_LOST = (RayError, RayServeException)
"""Errors of Ray and Serve themselves; an error raised by a replica arrives as it was raised."""


class ServePool:
    """Implements `compute.dispatch.pool.Pool` over deployment handles.

    While fewer of the pool's own replicas run than are configured, standbys count in place of the missing ones and
    take their jobs. The numbers of running replicas come from outside, through `counted`.
    """

    executor_type = "ray-serve"
    resumes = False

    def __init__(self, args: PoolArgs, handle: DeploymentHandle, standby: DeploymentHandle | None = None) -> None:
        self.name = args.name
        self.standby_name = args.standby_name if standby else None
        self.queue = args.queue
        self.recount: Callable[[], Awaitable[None]] = _no_news
        self._configured = args.num_replicas
        self._reserved = args.reserved_tasks
        self._own = _Replicas(handle, may_desert=standby is not None)
        self._standby = _Replicas(standby) if standby else None

    @property
    def has_standby(self) -> bool:
        return self._standby is not None

    def counted(self, own: int, standby: int = 0) -> None:
        """Set the numbers of warm replicas. Jobs that wait for replicas which are gone move to a standby."""
        self._own.running = own
        if self._standby is not None:
            self._standby.running = standby
            self._own.deserted = own == 0 and standby > 0

    def capacity(self) -> int:
        return self.ready() * (1 + self._reserved)

    def ready(self) -> int:
        return self._own.running + self._stand_ins()

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        """Stream the job's events from a replica.

        Raises:
            WorkerLost: the replica died, or is unwell.
        """
        replicas, begun = self._choose(), False
        try:
            async with aclosing(replicas.run(job)) as events:
                async for event in events:
                    begun = begun or isinstance(event, Started)
                    yield event
            return
        except _LOST as error:
            lost = WorkerLost(f"The replica that ran it died: {type(error).__name__}.")
        except WorkerLost as error:
            lost = error
        except _DesertedError:
            lost = WorkerLost("The replica that was to run it is gone.")
        await self.recount()
        # A job that never began has published nothing; one that began is left to the retry policy.
        if begun or replicas is self._standby or self._standby is None or not self._stand_ins():
            raise lost
        async with aclosing(self._once(self._standby, job)) as events:
            async for event in events:
                yield event

    async def _once(self, replicas: "_Replicas", job: Job) -> AsyncGenerator[WorkEvent]:
        try:
            async with aclosing(replicas.run(job)) as events:
                async for event in events:
                    yield event
        except _LOST as error:
            raise WorkerLost(f"The standby that ran it died: {type(error).__name__}.") from None

    def _stand_ins(self) -> int:
        """The number of standbys that stand in for missing replicas."""
        return min(self._standby.running, max(self._configured - self._own.running, 0)) if self._standby else 0

    def _choose(self) -> "_Replicas":
        stand_ins = self._stand_ins()
        if self._standby is None or not stand_ins:
            return self._own
        own_is_busy = self._own.jobs >= self._own.running
        own_is_gone = self._own.running == 0
        return self._standby if own_is_gone or (own_is_busy and self._standby.jobs < stand_ins) else self._own


class _DesertedError(Exception):
    """No replica is left behind the handle, and none has the job."""


class _Replicas:
    """The replicas behind one handle, and the number of their jobs."""

    def __init__(self, handle: DeploymentHandle, *, may_desert: bool = False) -> None:
        self.running = 0
        self.jobs = 0
        self._may_desert = may_desert
        self._handle = handle.options(stream=True)
        self._deserted = asyncio.Event()

    @property
    def deserted(self) -> bool:
        """Whether jobs that have not begun should look elsewhere."""
        return self._deserted.is_set()

    @deserted.setter
    def deserted(self, value: bool) -> None:
        if value:
            self._deserted.set()
        else:
            self._deserted.clear()

    async def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        """Stream the job's events from one of the replicas.

        Raises:
            RayError, RayServeException: the replica died.
            _DesertedError: all replicas died before one had the job.
        """
        self.jobs += 1
        stream = self._handle.run.remote(job)
        try:
            first = await (self._first(stream) if self._may_desert else anext(stream, None))
            if first is not None:
                for event in first:
                    yield event
                async for batch in stream:
                    for event in batch:
                        yield event
        except RayTaskError as error:
            raise error.cause from None
        finally:
            self.jobs -= 1
            stream.cancel()

    async def _first(self, stream: Any) -> tuple[WorkEvent, ...] | None:
        """The first events, or None when there is none.

        Serve keeps a job for replicas that have yet to start, however long that takes; a standby is quicker.
        """
        first = asyncio.ensure_future(anext(stream, None))
        deserted = asyncio.ensure_future(self._deserted.wait())
        try:
            await asyncio.wait([first, deserted], return_when=asyncio.FIRST_COMPLETED)
            if first.done():
                return first.result()
            raise _DesertedError
        finally:
            first.cancel()
            deserted.cancel()


async def _no_news() -> None:
    """Do nothing: the last count stays valid until the next one."""
