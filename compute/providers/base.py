"""The interface of a provider: what it is asked, and what it is given to do it with."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

from compute.errors import InvalidInput, ProviderFailed, TaskFailed
from compute.providers.calls.account import Account
from compute.providers.calls.call import Collected
from compute.providers.calls.job import JobCalls
from compute.providers.calls.protocol import QueueProtocol
from compute.providers.calls.record import Owner
from compute.schemas.enums import ErrorCategory, ProviderCapability, ProviderType
from compute.schemas.rules.strict import JsonBody
from compute.settings import Settings
from compute.tasks.operations import Operation
from compute.tasks.registry import TaskKind, kind_of
from compute.worker.context import RunContext, run_work
from compute.worker.protocol import Artifact, Job, WorkerContext, WorkEvent

__all__ = ["Assignment", "Provider", "RemoteProvider", "RemoteWorker", "publish"]

ConfigT = TypeVar("ConfigT", bound=JsonBody)
_SETUP_SECONDS = 90.0
"""Until it is looked whether a missing setting is there again; longer than a fallback provider is kept waiting."""


class Provider(ABC):
    """One that executes tasks. It holds nothing open; a request that names one which is not installed is refused."""

    name: ClassVar[ProviderType]
    config_model: ClassVar[type[JsonBody]]
    """What `provider_config` may say. It is in the OpenAPI document."""
    queue: ClassVar[str | None] = None
    """Where its tasks wait, unless `queue_for` says otherwise."""

    def queue_for(self, settings: Settings) -> str | None:
        """The queue in which its tasks wait. None: where their type says, because a pipeline of this cluster does
        them (`TaskKind.queue_for`)."""
        return self.queue

    @abstractmethod
    def capabilities(self, kind: TaskKind[Any]) -> frozenset[ProviderCapability]:
        """Capabilities for tasks of this type; none if it does not execute them."""

    def check(  # noqa: B027 - some have nothing to check
        self, operation: Operation | None, config: JsonBody, settings: Settings
    ) -> None:
        """Check that a task can be done, before it is accepted. `operation` is None for work that only this cluster
        does.

        Raises:
            InvalidInput: a setting is missing, or the task needs what the provider does not offer; names the field.
        """

    @abstractmethod
    def run(self, job: Job, worker: Any) -> AsyncGenerator[WorkEvent]:
        """Execute a task. See `compute.worker.protocol` for what is yielded and raised."""


class RemoteWorker(WorkerContext, Protocol):
    """The services of a worker that calls providers elsewhere."""

    @property
    def settings(self) -> Settings: ...

    def calls(self, owner: Owner) -> JobCalls:
        """Makes and follows the paid calls of one owner."""
        ...


@dataclass(frozen=True, slots=True)
class Assignment(Generic[ConfigT]):
    """One task at a provider elsewhere.

    Attributes:
        operation: What is wanted.
        config: The request's `provider_config`, checked.
        context: Loads inputs, computes, publishes results, reports progress.
        calls: Makes the paid calls.
    """

    operation: Operation
    config: ConfigT
    context: RunContext
    calls: JobCalls
    settings: Settings


class RemoteProvider(Provider, Generic[ConfigT]):
    """One that is called over the network.

    A new one is a file of `compute.providers.types` with a subclass: it names its queue, says what it can do, checks
    its settings in `account`, and does a task in `work`.
    """

    queue: ClassVar[str]

    @abstractmethod
    def account(self, settings: Settings) -> Account:
        """The account that pays.

        Raises:
            InvalidInput: a setting is missing; names it.
        """

    def accounts(self, settings: Settings) -> list[Account]:
        """All accounts that may pay for its tasks.

        Raises:
            InvalidInput: a setting is missing; names it.
        """
        return [self.account(settings)]

    @abstractmethod
    async def work(self, assignment: Assignment[ConfigT]) -> None:
        """Do the task: make calls, publish what they made.

        Raises:
            ProviderFailed, CallUncertain: as `JobCalls`.
            InvalidInput: an input is gone.
        """

    def reopen(self, vendor: str, endpoint: str, settings: Settings) -> QueueProtocol | None:
        """The protocol of a call that was made to `endpoint`, host and path, if it is of this provider's vendor and
        that has a queue: to ask how it goes, or to stop it.

        Raises:
            InvalidInput: a setting is missing; names it.
        """
        return None

    def check(self, operation: Operation | None, config: JsonBody, settings: Settings) -> None:
        self.account(settings)

    def run(self, job: Job, worker: RemoteWorker) -> AsyncGenerator[WorkEvent]:
        return run_work(job, worker, partial(self._work, job, worker))

    def _check_setup(self, operation: Operation, config: JsonBody, settings: Settings) -> None:
        """Check again what was checked before the task was accepted: settings may have gone since.

        Raises:
            ProviderFailed: it could not be accepted now. That is the operator's affair, and may pass.
        """
        try:
            self.check(operation, config, settings)
        except InvalidInput as error:
            raise ProviderFailed(
                error.detail, category=ErrorCategory.INTERNAL, seconds=_SETUP_SECONDS, charged=False
            ) from error

    async def _work(self, job: Job, worker: RemoteWorker, context: RunContext) -> None:
        kind = kind_of(job.task_type)
        operation = kind.operation(job.spec)
        if operation is None:
            raise TaskFailed(f"Tasks of type {kind.name} are done by this cluster alone.")
        config = cast("ConfigT", self.config_model.model_validate(job.spec.get("provider_config") or {}))
        self._check_setup(operation, config, worker.settings)
        owner = Owner(self.name, f"{kind.folder}/{job.task_id}/calls", job.task_id, job.fence)
        async with context.device():
            await self.work(Assignment(operation, config, context, worker.calls(owner), worker.settings))


def publish(context: RunContext, collected: Collected, *, seed: int | None = None, model: str) -> None:
    """Publish the files of a call as the task's next outputs, and credit them to `model`. The n-th gets `seed` + n."""
    for index, file in enumerate(collected.files):
        of_file = None if seed is None else seed + index
        context.publish_stored(
            Artifact(file.path, file.content_type, file.size, file.sha256, file.width, file.height, of_file)
        )
    context.note(model=model, provider_request_id=collected.vendor_id)
