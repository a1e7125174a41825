"""Runs seeded chances one after the other: a lane has stand-ins and desks of its own, which stay open."""

import asyncio
import importlib
import logging
import random
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from compute.dispatch.retry import RetryPolicy, Verdict, classify
from compute.errors import ProviderFailed
from compute.providers.calls.call import CallState
from compute.providers.calls.record import CallPolicy
from compute.tasks.leases import Fail, Lease, Release
from tests.patience import PATIENCE
from tests.providers.harness import Desk, MemoryLedger, Outcome, open_desk
from tests.providers.seeded.chances import FEW_BYTES, Chance, Kill
from tests.providers.seeded.subjects import SUBJECTS, Subject, Vendor
from tests.providers.standins.jobs import JobStandIn
from tests.providers.standins.server import StandIn

__all__ = ["MOST_RUNS", "Ended", "KeyWatch", "Lane", "keys", "open_lane"]

MOST_RUNS = 4
_POLICY = CallPolicy(wait=12.0, fetch=1.0, uncertain=60.0, answer=1.0, poll=0.004)
_RUN_SECONDS = 30.0
"""Longest that any run may take by these limits."""
_SHORT_WAIT = 0.6
"""Seconds for a job that never ends."""


@dataclass
class Ended:
    """What became of a chance, and what its vendor saw."""

    chance: Chance
    stand_in: StandIn
    ledger: MemoryLedger
    final: str = ""
    """`done`, `doubt`, or the category that the task failed with."""
    errors: list[BaseException] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    kills: int = 0
    killed_in_doubt: bool = False
    """A paid request was under way, or about to leave, when its process ended."""
    late: bool = False
    outcome: Outcome | None = None
    waits: list[tuple[float, float]] = field(default_factory=list)
    """Pauses before the next run, each with the least that its failure asks for."""
    wrong: list[str] = field(default_factory=list)
    """What should not be, in words, once it is judged."""

    @property
    def was_late(self) -> bool:
        """An answer, or a whole run, took longer than it may."""
        return self.late or any("no answer in time" in str(one) for one in self.errors)

    def told(self) -> str:
        """Everything that anybody is told of it but the result."""
        rows = [(one.error, one.addresses, one.result) for one in self.ledger.rows()]
        contexts = [getattr(one, "context", None) for one in self.errors]
        return repr((self.errors, contexts, rows, self.ledger.requests))


@dataclass(frozen=True)
class _Attempt:
    """Implements `compute.dispatch.retry.Attempt`."""

    lease: Lease
    retry_count: int
    max_retries: int | None = None
    has_fallback: bool = False


def keys() -> list[str]:
    """The keys of all stand-ins, and what is secret of them alone."""
    found = {vendor.make().key for vendor in {one.vendor.name: one.vendor for one in SUBJECTS}.values()}
    return sorted({part for key in found for part in (key, key.partition(":")[2]) if part})


class KeyWatch(logging.Handler):
    """Notes the records of all loggers that say a key."""

    def __init__(self, keys: Iterable[str]) -> None:
        super().__init__(logging.DEBUG)
        self._keys = [key for key in keys if key]
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage() + (repr(record.exc_info[1]) if record.exc_info else "")
        if any(key in text for key in self._keys):
            self.found.append(f"{record.name}: {text}")


class Lane:
    """Stand-ins and desks, each opened when it is first needed."""

    def __init__(self, folder: Path, opened: AsyncExitStack) -> None:
        self._folder = folder
        self._opened = opened
        self._stand_ins: dict[str, StandIn] = {}
        self._desks: dict[str, Desk] = {}
        self._specs: dict[str, dict[str, Any]] = {}

    async def run(self, chance: Chance) -> Ended:
        """Run a task as the Dispatcher does, until it ends or has run `MOST_RUNS` times. Where an answer was late and
        nothing hung, this machine was busy: the task is run once more."""
        ended = await self._run(chance)
        paid = chance.subject.vendor.routes["submit"]
        hung = any(route == paid and "hang" in name for route, _, name in ended.stand_in.faults.played)
        return await self._run(chance) if ended.was_late and not hung else ended

    async def _run(self, chance: Chance) -> Ended:
        stand_in, desk = await self._open(chance.subject.vendor)
        _forget(stand_in)
        spec = await self._spec(chance.subject, desk)
        _plan(stand_in, chance)
        never = any(mishap.plan is not None and mishap.plan.held for mishap, _ in chance.mishaps)
        policy = replace(_POLICY, wait=_SHORT_WAIT) if never else _POLICY
        desk = replace(desk, ledger=MemoryLedger(), policy=policy)
        ended = Ended(chance, stand_in, desk.ledger)
        await _Task(desk, spec, ended).run()
        stand_in.faults.clear()
        return ended

    async def _open(self, vendor: Vendor) -> tuple[StandIn, Desk]:
        if vendor.name not in self._desks:
            stand_in = await self._opened.enter_async_context(vendor.make())
            settings = vendor.settings(stand_in) | {"provider_result_max_bytes": FEW_BYTES}
            desk = await self._opened.enter_async_context(
                open_desk(self._folder / vendor.name, _POLICY, file_seconds=0.5, **settings)
            )
            self._stand_ins[vendor.name], self._desks[vendor.name] = stand_in, desk
            await asyncio.to_thread(_import_clients)
        return self._stand_ins[vendor.name], self._desks[vendor.name]

    async def _spec(self, subject: Subject, desk: Desk) -> dict[str, Any]:
        if str(subject) not in self._specs:
            self._specs[str(subject)] = await subject.spec(desk) | {"provider_config": dict(subject.config)}
        return self._specs[str(subject)]


class _Task:
    """One task, and its runs."""

    def __init__(self, desk: Desk, spec: dict[str, Any], ended: Ended) -> None:
        self._desk = desk
        self._spec = spec
        self._ended = ended
        self._task_id: UUID = uuid4()
        spread = random.Random(ended.chance.number)
        self._policy = RetryPolicy(max_retries=MOST_RUNS - 1, backoff_seconds=0.01, chance=spread.random)

    async def run(self) -> None:
        ended, retries = self._ended, 0
        for fence in range(1, MOST_RUNS + 1):
            attempt = _Attempt(Lease(self._task_id, fence), retries)
            kill = ended.chance.kill if fence == 1 else None
            error = await self._run_once(fence, kill)
            if error is None:
                ended.final = "done"
                return
            if isinstance(error, asyncio.CancelledError):
                self._policy.handed_back(attempt)
                continue
            failure = classify(error)
            ended.errors.append(error)
            ended.categories.append(failure.category)
            end = self._policy.failed(attempt, failure)
            ended.final = "doubt" if failure.verdict is Verdict.NEWS else str(failure.category)
            if isinstance(end, Fail):
                ended.final = str(end.category)
                return
            assert isinstance(end, Release)
            self._ended.waits.append((end.delay_seconds, failure.seconds))
            retries += end.error is not None

    async def _run_once(self, fence: int, kill: Kill | None) -> BaseException | None:
        """What ended the run; None if it was done."""
        subject = self._ended.chance.subject
        running = asyncio.create_task(
            self._desk.run(subject.task_type, self._spec, subject.provider, task_id=self._task_id, fence=fence)
        )
        killing = asyncio.create_task(self._kill(running, kill)) if kill else None
        began = time.monotonic()
        await asyncio.wait([running], timeout=PATIENCE)
        self._ended.late = self._ended.late or time.monotonic() - began > _RUN_SECONDS
        running.cancel()
        await asyncio.wait([running])
        if killing is not None:
            killing.cancel()
            await asyncio.wait([killing])
        if running.cancelled():
            return asyncio.CancelledError()
        error = running.exception()
        if error is None:
            self._ended.outcome = running.result()
        return error

    async def _kill(self, running: asyncio.Task[Outcome], kill: Kill) -> None:
        with suppress(TimeoutError):
            await self._ended.stand_in.until(lambda: len(self._ended.stand_in.arrivals) >= kill.arrivals)
            await asyncio.sleep(kill.seconds)
            if running.done():
                return
            running.cancel()
            with suppress(asyncio.CancelledError, ProviderFailed):
                await asyncio.wait([running])
            self._ended.kills += 1
            unknown = (CallState.INTENT, CallState.UNCERTAIN)
            self._ended.killed_in_doubt = any(row.state in unknown for row in self._ended.ledger.rows())


def _import_clients() -> None:
    """So that no run's time passes with it."""
    for name in ("anthropic", "cv2", "google.genai", "ollama", "openai"):
        importlib.import_module(name)


def _forget(stand_in: StandIn) -> None:
    stand_in.faults.clear()
    stand_in.faults.played.clear()
    stand_in.arrivals.clear()
    if isinstance(stand_in, JobStandIn):
        for jobs in (stand_in.plans, stand_in.jobs, stand_in.made, stand_in.billed):
            jobs.clear()


def _plan(stand_in: StandIn, chance: Chance) -> None:
    vendor = chance.subject.vendor
    if isinstance(stand_in, JobStandIn):
        stand_in.plan = replace(stand_in.plan, states=vendor.states[-2:])
    for mishap, after in chance.mishaps:
        if mishap.plan is not None:
            assert isinstance(stand_in, JobStandIn)
            stand_in.plans.append(mishap.plan)
        elif mishap.fault is not None and mishap.lasting:
            stand_in.faults.always(vendor.routes[mishap.point], mishap.fault)
        elif mishap.fault is not None:
            stand_in.faults.after(vendor.routes[mishap.point], after, mishap.fault)


@asynccontextmanager
async def open_lane(folder: Path) -> AsyncIterator[Lane]:
    """A lane whose files are in `folder`."""
    async with AsyncExitStack() as opened:
        yield Lane(folder, opened)
