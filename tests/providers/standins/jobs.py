"""Jobs of vendors that are submitted, looked at and collected, and the plans by which they go."""

import asyncio
import json
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import uuid4

from tests.providers.standins.server import StandIn
from tests.providers.standins.webhooks import Delivery, Forgery, Webhooks

__all__ = ["Job", "JobStandIn", "Plan"]


@dataclass(frozen=True)
class Plan:
    """The course of a job.

    `states` are the vendor's words, in any order and with any word among them. Without `seconds` each poll takes a job
    to the next; with them it passes through all in so many seconds, polled or not. A job that is `held` stops before
    its last state until `JobStandIn.finish`. Without a last word that the vendor ends with, it never ends.
    """

    states: tuple[str, ...]
    seconds: float | None = None
    held: bool = False
    failure: str = ""
    """The vendor's word for why it fails; empty: it succeeds, if its last state is a success."""
    obeys_cancel: bool = True
    """False: it completes, and is charged for, although a cancel was accepted."""


@dataclass(eq=False)
class Job:
    """A submitted job."""

    id: str
    app: str
    """The model or the mode, as the vendor names it."""
    arguments: Mapping[str, Any]
    images: tuple[bytes, ...]
    plan: Plan
    made_at: float
    webhook: str = ""
    position: int = -1
    """How far in the plan's states it is; -1: nobody has polled yet."""
    cancelled: bool = False
    finished: bool = False
    succeeded: bool = False
    failure: str = ""
    """Why it failed or will fail, in the vendor's word."""
    result: Any = None
    extra: dict[str, Any] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while it moves."""

    @property
    def state(self) -> str:
        return self.plan.states[max(self.position, 0)]

    @property
    def stopped(self) -> bool:
        """It was cancelled, and heeds it."""
        return self.cancelled and self.plan.obeys_cancel


class JobStandIn(StandIn):
    """A vendor whose work is submitted, polled and collected.

    `plans` are for the next submits, one each; after them `plan` is for all. `ids` are given to the next jobs; the same
    id twice makes two jobs of which only the first can be polled.
    """

    plan: Plan
    terminal: ClassVar[frozenset[str]]
    """States that a job ends with."""
    successes: ClassVar[frozenset[str]]
    """Those of them that come with a result."""

    def __init__(self, key: str = "test-key") -> None:
        super().__init__(key)
        self.plans: deque[Plan] = deque()
        self.ids: deque[str] = deque()
        self.jobs: dict[str, Job] = {}
        """By id."""
        self.made: list[Job] = []
        """All of them, in the order of their submits."""
        self.billed: list[Job] = []
        self.webhooks = Webhooks(self._sign, self.clock.now)
        self._moving: set[asyncio.Task[None]] = set()

    async def __aexit__(self, *error: object) -> None:
        for task in self._moving:
            task.cancel()
        await asyncio.gather(*self._moving, return_exceptions=True)
        await self.webhooks.close()
        await super().__aexit__(*error)

    @abstractmethod
    async def complete(self, job: Job) -> None:
        """Set the result of a job that succeeds, or its `failure` if it turns out that it cannot."""

    @abstractmethod
    def webhook_body(self, job: Job) -> Any | None:
        """The body of a webhook for a job's present state; None: there is none for it."""

    def _sign(self, delivery: Delivery, body: bytes, at: float, forgery: Forgery | None) -> dict[str, str]:
        """The headers of a signature; none, unless the vendor signs."""
        return {}

    def create(
        self, app: str, arguments: Mapping[str, Any], images: tuple[bytes, ...] = (), webhook: str = "", **extra: Any
    ) -> Job:
        """Take in a job."""
        plan = self.plans.popleft() if self.plans else self.plan
        identity = self.ids.popleft() if self.ids else self.new_id()
        job = Job(identity, app, arguments, images, plan, self.clock.now(), webhook, failure=plan.failure, extra=extra)
        self.made.append(job)
        self.jobs.setdefault(identity, job)
        if plan.seconds is not None:
            task = asyncio.create_task(self._move(job, plan.seconds))
            self._moving.add(task)
            task.add_done_callback(self._moving.discard)
        if job.state not in self.terminal:
            self._tell(job)
        return job

    def new_id(self) -> str:
        return str(uuid4())

    async def poll(self, job: Job) -> str:
        """The state that is shown to a client who asks now."""
        if job.plan.seconds is None:
            await self._step(job)
        return job.state

    async def finish(self, job: Job) -> None:
        """Take a job to its end."""
        async with job.lock:
            if not job.finished:
                await self._enter(job, len(job.plan.states) - 1)

    async def settle(self, job: Job) -> None:
        """End a job as its state, its failure and its cancel say. One that succeeds is charged for."""
        if job.state in self.successes and not job.failure and not job.stopped:
            await self.complete(job)
            job.succeeded = not job.failure
        if job.succeeded:
            self.billed.append(job)
        job.finished = True

    async def _step(self, job: Job) -> None:
        async with job.lock:
            last = len(job.plan.states) - 1
            if not (job.finished or job.position >= last or (job.plan.held and job.position >= last - 1)):
                await self._enter(job, job.position + 1)

    async def _move(self, job: Job, seconds: float) -> None:
        job.position = 0
        later = job.plan.states[1:]
        try:
            for _ in later:
                await asyncio.sleep(seconds / len(later))
                await self._step(job)
        except Exception as error:
            self.broke(error)

    async def _enter(self, job: Job, position: int) -> None:
        """Put a job at a position in its plan, and do what its state brings with it."""
        before = job.state
        job.position = position
        if job.state in self.terminal:
            await self.settle(job)
            self._tell(job)
        elif job.state != before:
            self._tell(job)
        self.changed()

    def _tell(self, job: Job) -> None:
        body = self.webhook_body(job) if job.webhook else None
        if body is not None:
            self.webhooks.post(Delivery(job.webhook, json.dumps(body).encode(), job.id, job.state))
