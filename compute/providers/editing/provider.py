"""The base of providers that refine images over an editor: a vendor's model, or the models of this cluster."""

from abc import abstractmethod
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, Generic, TypeVar

from compute.errors import TaskFailed
from compute.providers.base import Assignment, RemoteProvider, RemoteWorker
from compute.providers.calls.account import Account
from compute.providers.editing.editor import ImageEditor
from compute.providers.editing.editors.choice import LOCAL, LOCAL_QUEUE, editor_account, open_editor
from compute.providers.vendors.offers import checked_operation
from compute.schemas.rules.strict import JsonBody
from compute.settings import Settings
from compute.tasks.operations import Operation
from compute.tasks.registry import kind_of
from compute.worker.context import RunContext, run_work
from compute.worker.protocol import Job, WorkEvent

__all__ = ["REFINERS", "EditingProvider"]

REFINERS = "sartiq"
"""The queue of those that edit elsewhere."""

ConfigT = TypeVar("ConfigT", bound=JsonBody)


class EditingProvider(RemoteProvider[ConfigT], Generic[ConfigT]):
    """One that refines images over the editor that the settings choose (`image_editor`).

    With the editor LOCAL its tasks wait in the queue `inference`, and run on its workers without a paid call.
    """

    queue = REFINERS
    operations: tuple[type[Operation], ...]
    """What it can do."""

    @abstractmethod
    async def refine(self, context: RunContext, operation: Any, config: ConfigT, editor: ImageEditor) -> None:
        """Do the task over an editor, and publish the result.

        Raises:
            ProviderFailed, CallUncertain: as `ImageEditor.edit`.
        """

    def queue_for(self, settings: Settings) -> str | None:
        return LOCAL_QUEUE if settings.image_editor == LOCAL else self.queue

    def account(self, settings: Settings) -> Account:
        return editor_account(settings, user=self.name)

    def accounts(self, settings: Settings) -> list[Account]:
        return [] if settings.image_editor == LOCAL else super().accounts(settings)

    def check(self, operation: Operation | None, config: JsonBody, settings: Settings) -> None:
        checked_operation(self.name, operation, *self.operations)
        if settings.image_editor != LOCAL:
            super().check(operation, config, settings)

    async def work(self, assignment: Assignment[ConfigT]) -> None:
        context, settings = assignment.context, assignment.settings
        editor = open_editor(context, assignment.calls, settings, user=self.name)
        await self._refine(context, assignment.operation, assignment.config, editor)

    def run(self, job: Job, worker: RemoteWorker) -> AsyncGenerator[WorkEvent]:
        if hasattr(worker, "calls"):
            return super().run(job, worker)
        return run_work(job, worker, partial(self._run_here, job))

    async def _run_here(self, job: Job, context: RunContext) -> None:
        from compute.providers.editing.editors.local import LocalEditor

        operation = kind_of(job.task_type).operation(job.spec)
        config: Any = self.config_model.model_validate(job.spec.get("provider_config") or {})
        async with context.device():
            await self._refine(context, operation, config, LocalEditor(context))

    async def _refine(
        self, context: RunContext, operation: Operation | None, config: ConfigT, editor: ImageEditor
    ) -> None:
        if not isinstance(operation, self.operations):
            raise TaskFailed(f"{self.name} does not do tasks of this type.")
        await self.refine(context, operation, config, editor)
        context.note(model=editor.model)
