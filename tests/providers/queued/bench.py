"""A vendor with a queue, a desk in front of it, and one task: what tests of faults stand on."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from compute.errors import ProviderFailed
from compute.providers.calls.call import CallState
from compute.providers.calls.record import CallPolicy
from compute.schemas.enums import ErrorCategory, ProviderType
from tests.patience import PATIENCE
from tests.providers.harness import Desk, Outcome, open_desk
from tests.providers.queued.specs import stored
from tests.providers.standins.fal import Fal
from tests.providers.standins.fashn import Fashn
from tests.providers.standins.jobs import JobStandIn, Plan
from tests.providers.standins.magnific import Magnific
from tests.providers.standins.server import Fault

__all__ = [
    "FEW_BYTES",
    "MOST_RUNS",
    "POINTS",
    "QUEUED",
    "Bench",
    "Queued",
    "bench",
    "every_vendor",
    "limits_for",
]

MOST_RUNS = 3
FEW_BYTES = 200_000
"""Largest result that the desk accepts."""


@dataclass(frozen=True)
class Queued:
    """A vendor with a queue, and a small task for it."""

    name: str
    make: Callable[[], JobStandIn]
    provider: ProviderType
    task_type: str
    settings: Callable[[Any], dict[str, Any]]
    states: tuple[str, ...]
    routes: dict[str, str]
    """The stand-in's routes for the points of a call."""
    lost: str
    """A word for a plan whose job fails."""
    fields: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


QUEUED = [
    Queued(
        "fal",
        Fal,
        ProviderType.FAL_STANDARD,
        "GENERATION",
        lambda fal: {"fal_key": fal.key, "fal_queue_url": fal.url("queue")},
        ("IN_QUEUE", "IN_PROGRESS", "COMPLETED"),
        {"submit": "submit", "status": "status", "result": "result", "file": "file"},
        "runner_disconnected",
    ),
    Queued(
        "fashn",
        Fashn,
        ProviderType.FASHN_STANDARD,
        "EDITING",
        lambda fashn: {"fashn_api_key": fashn.key, "fashn_base_url": fashn.url() + "/v1"},
        ("in_queue", "processing", "completed"),
        {"submit": "run", "status": "status", "file": "file"},
        "PipelineError",
    ),
    Queued(
        "magnific",
        Magnific,
        ProviderType.FREEPIK_MAGNIFIC,
        "REFINE",
        lambda magnific: {"magnific_api_key": magnific.key, "magnific_base_url": magnific.url()},
        ("CREATED", "IN_PROGRESS", "COMPLETED"),
        {"submit": "submit", "status": "task", "file": "file"},
        "failed",
    ),
]
every_vendor = pytest.mark.parametrize("queued", QUEUED, ids=str)


@dataclass
class Bench:
    """A vendor, a desk in front of it, and one task."""

    queued: Queued
    stand_in: JobStandIn
    desk: Desk
    spec: dict[str, Any]
    task_id: Any = field(default_factory=uuid4)
    fence: int = 0
    errors: list[ProviderFailed] = field(default_factory=list)

    async def run(self) -> Outcome:
        """The task's next run."""
        self.fence += 1
        return await self.desk.run(
            self.queued.task_type, self.spec, self.queued.provider, task_id=self.task_id, fence=self.fence
        )

    async def run_to_the_end(self, most: int = MOST_RUNS) -> Outcome | None:
        """Run as the Dispatcher does, while another run may help; None if none did."""
        while self.fence < most:
            try:
                return await self.run()
            except ProviderFailed as error:
                self.errors.append(error)
                ended = error.hopeless or error.category in (ErrorCategory.INVALID_INPUT, ErrorCategory.CONTENT_POLICY)
                if ended:
                    return None
        return None

    @property
    def state(self) -> CallState:
        [*_, last] = self.desk.ledger.rows()
        return last.state

    def told(self) -> str:
        """Everything that anybody is told of it but the result."""
        rows = [(one.error, one.addresses, one.result) for one in self.desk.ledger.rows()]
        return repr((self.errors, [one.context for one in self.errors], rows, self.desk.ledger.requests))


@asynccontextmanager
async def bench(queued: Queued, tmp_path: Path, **policy: Any) -> AsyncIterator[Bench]:
    chosen: dict[str, Any] = {"wait": PATIENCE, "fetch": PATIENCE, "poll": 0.01} | policy
    async with queued.make() as stand_in:
        stand_in.plan = Plan(queued.states)
        settings = queued.settings(stand_in) | {"provider_result_max_bytes": FEW_BYTES}
        async with open_desk(tmp_path, CallPolicy(**chosen), **settings) as desk:
            yield Bench(queued, stand_in, desk, await stored(desk, queued.task_type, **queued.fields))


def limits_for(fault: Fault) -> dict[str, float]:
    """A limit that a request misses soon, for a fault that would never end."""
    return {"answer": 0.5} if "hang" in fault.name else {}


POINTS = [
    pytest.param(queued, point, id=f"{queued}-{point}")
    for queued in QUEUED
    for point in ("status", "result")
    if point in queued.routes
]
