"""Runs tasks at providers without Ray and without Postgres: a ledger in memory, files in a folder, real HTTP."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from PIL import Image

from compute.deployments.context import LocalWorkerContext
from compute.media.codec import encode
from compute.media.loader import MediaLoader
from compute.outbound.client import GuardedClient
from compute.providers.base import Assignment, RemoteProvider
from compute.providers.calls.call import AGAIN, Call, CallState, Intent
from compute.providers.calls.files import ResultFiles
from compute.providers.calls.http import HttpClient
from compute.providers.calls.job import JobCalls
from compute.providers.calls.ledger import ServiceRequest
from compute.providers.calls.outcomes import FOLLOWED
from compute.providers.calls.record import CallPolicy, Owner
from compute.providers.registry import all_providers
from compute.schemas.enums import ProviderType
from compute.settings import Settings
from compute.storage.local import LocalStore
from compute.tasks.operations import Operation
from compute.tasks.registry import kind_of
from compute.worker.context import RunContext, run_work
from compute.worker.protocol import Artifact, Done, Job, Said, WorkEvent

__all__ = ["Desk", "MemoryLedger", "Outcome", "open_desk"]


class MemoryLedger:
    """Implements `Ledger` without limits, breakers or leases. What it knows outlives the runs of a test."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.requests: list[ServiceRequest] = []
        self._latest: dict[tuple[UUID | None, str, str], UUID] = {}
        self._rows: dict[UUID, Call] = {}

    async def begin(self, intent: Intent) -> Call:
        key = (intent.task_id, intent.provider, intent.part)
        latest = self._rows.get(self._latest[key]) if key in self._latest else None
        if latest is not None and latest.state not in AGAIN:
            return latest
        attempt = 1 if latest is None else latest.attempt + 1
        call = Call(intent.id, intent.part, CallState.INTENT, True, attempt)
        self._rows[call.id] = replace(call, is_new=False)
        self._latest[key] = call.id
        return call

    def rows(self) -> list[Call]:
        """All calls, in their order."""
        return list(self._rows.values())

    def of(self, part: str) -> list[Call]:
        """The calls for a part, in their order."""
        return [call for call in self._rows.values() if call.part == part]

    async def accepted(
        self, call_id: UUID, vendor_id: str, addresses: dict[str, str], requests: Sequence[ServiceRequest]
    ) -> bool:
        others = [call for call in self._rows.values() if call.vendor_id == vendor_id and call.id != call_id]
        if others and FOLLOWED not in addresses:
            return False
        self._change(call_id, requests, state=CallState.ACCEPTED, vendor_id=vendor_id, addresses=addresses)
        return True

    async def collected(
        self,
        call_id: UUID,
        result: dict[str, Any],
        units: dict[str, float],
        vendor_id: str | None,
        requests: Sequence[ServiceRequest],
    ) -> None:
        known = vendor_id or self._rows[call_id].vendor_id
        self._change(call_id, requests, state=CallState.COLLECTED, result=result, units=units, vendor_id=known)

    async def failed(
        self,
        call_id: UUID,
        category: str,
        message: str,
        *,
        blames: bool,
        pause: float,
        requests: Sequence[ServiceRequest],
    ) -> None:
        self._change(call_id, requests, state=CallState.FAILED, error=message)

    async def uncertain(self, call_id: UUID, message: str, requests: Sequence[ServiceRequest]) -> None:
        self._change(call_id, requests, state=CallState.UNCERTAIN, error=message)

    async def cancelled(self, call_id: UUID, message: str, requests: Sequence[ServiceRequest]) -> None:
        self._change(call_id, requests, state=CallState.CANCELLED, error=message)

    def settle(self, call_id: UUID, state: CallState) -> None:
        """As an operator does."""
        self._change(call_id, (), state=state)

    def _change(self, call_id: UUID, requests: Sequence[ServiceRequest], **values: Any) -> None:
        self.requests += requests
        self._rows[call_id] = replace(self._rows[call_id], **values)


@dataclass
class Outcome:
    """What a run has yielded."""

    artifacts: list[Artifact] = field(default_factory=list)
    text: str = ""
    metadata: dict[str, Any] | None = None
    events: list[WorkEvent] = field(default_factory=list)


class _Worker(LocalWorkerContext):
    def __init__(self, desk: "Desk") -> None:
        super().__init__(desk.settings, desk.objects, None, "providers#1", slots=1000)
        self._desk = desk

    @property
    def settings(self) -> Settings:
        return self._desk.settings

    def calls(self, owner: Owner) -> JobCalls:
        return self._desk.calls(owner)


@dataclass
class Desk:
    """Everything that a provider needs. `settings` lead to a stand-in."""

    settings: Settings
    objects: LocalStore
    ledger: MemoryLedger
    http: HttpClient
    files: ResultFiles
    policy: CallPolicy

    def calls(self, owner: Owner | None = None) -> JobCalls:
        """The calls of a task, by default a new one's."""
        return JobCalls(owner or self.owner(), self.ledger, self.http, self.files, self.policy)

    def owner(self, provider: str = "FAL_STANDARD") -> Owner:
        task_id = uuid4()
        return Owner(provider, f"generations/{task_id}/calls", task_id, 1)

    async def store(self, image: Image.Image) -> str:
        """Store an input; its path."""
        data = encode(image, "png")
        path = f"inputs/{hashlib.sha256(data).hexdigest()}.png"
        await self.objects.put(path, data, "image/png")
        return path

    async def image(self, path: str) -> Image.Image:
        """Open a stored image."""
        file = self.settings.storage_root / path
        opened = Image.open(file)
        opened.load()
        return opened

    async def run(
        self,
        task_type: str,
        spec: dict[str, Any],
        provider: ProviderType,
        *,
        task_id: UUID | None = None,
        fence: int = 1,
    ) -> Outcome:
        """Run a task at a provider as a worker would; raises what it raises."""
        job = Job(task_id or uuid4(), task_type, fence, spec | {"provider_type": provider})
        return await _collected(all_providers()[provider].run(job, _Worker(self)))

    async def do(
        self,
        operation: Operation,
        provider: ProviderType,
        config: dict[str, Any] | None = None,
        *,
        task_type: str = "GENERATION",
        task_id: UUID | None = None,
        fence: int = 1,
    ) -> Outcome:
        """Do an operation at a provider elsewhere, as the run of a task that asks for it."""
        chosen = all_providers()[provider]
        assert isinstance(chosen, RemoteProvider)
        job, worker = Job(task_id or uuid4(), task_type, fence, {}), _Worker(self)
        owner = Owner(provider, f"{kind_of(task_type).folder}/{job.task_id}/calls", job.task_id, fence)
        checked = chosen.config_model.model_validate(config or {})

        async def work(context: RunContext) -> None:
            async with context.device():
                await chosen.work(Assignment(operation, checked, context, worker.calls(owner), self.settings))

        return await _collected(run_work(job, worker, work))


async def _collected(running: AsyncGenerator[WorkEvent]) -> Outcome:
    outcome = Outcome()
    async with aclosing(running) as events:
        async for event in events:
            outcome.events.append(event)
            match event:
                case Artifact():
                    outcome.artifacts.append(event)
                case Said(text):
                    outcome.text += text
                case Done(metadata):
                    outcome.metadata = metadata
    return outcome


@asynccontextmanager
async def open_desk(
    tmp_path: Path, policy: CallPolicy | None = None, *, file_seconds: float = 10.0, **settings: Any
) -> AsyncIterator[Desk]:
    """A desk with `settings` beside those that let it fetch from loopback. A file of a result must be there in
    `file_seconds`.

    Example:
        async with Fal() as fal, open_desk(tmp_path, fal_key=fal.key, fal_queue_url=fal.url("queue")) as desk:
            ...
    """
    chosen = Settings(home=tmp_path, media_allowed_hosts=("127.0.0.1",), **settings)
    objects = LocalStore(chosen.storage_root)
    async with GuardedClient(chosen.media_allowed_hosts) as client, HttpClient() as http:
        media = MediaLoader(chosen.model_copy(update={"media_max_bytes": chosen.provider_result_max_bytes}), client)
        files = ResultFiles(objects, client, media, max_bytes=chosen.provider_result_max_bytes, seconds=file_seconds)
        yield Desk(
            chosen,
            objects,
            MemoryLedger(),
            http,
            files,
            policy or CallPolicy(wait=10.0, fetch=2.0, uncertain=60.0, poll=0.02),
        )
        await objects.close()
