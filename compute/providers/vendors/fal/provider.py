"""Base of the providers on fal."""

from typing import Any, TypeVar

from compute.errors import InvalidInput
from compute.providers.base import Assignment, RemoteProvider
from compute.providers.calls.account import Account
from compute.providers.calls.call import Collected
from compute.providers.vendors.fal.arguments import edit_arguments, merged, refine_arguments
from compute.providers.vendors.fal.queue import FalQueue, fal_account, is_app_id
from compute.providers.vendors.pictures import publish_at, publish_inpainted
from compute.providers.vendors.queued import queued
from compute.schemas.rules.strict import JsonBody
from compute.settings import Settings
from compute.tasks.operations import Edit, Refine

__all__ = ["FalProvider", "app_for"]

ConfigT = TypeVar("ConfigT", bound=JsonBody)


class FalProvider(RemoteProvider[ConfigT]):
    """One that runs apps of fal."""

    queue = "fal"

    def account(self, settings: Settings) -> Account:
        return fal_account(settings, user=self.name)

    def reopen(self, vendor: str, endpoint: str, settings: Settings) -> FalQueue | None:
        if vendor != "fal":
            return None
        base = settings.fal_queue_url.split("://", 1)[-1].rstrip("/")
        return FalQueue(self.account(settings), settings.fal_queue_url, endpoint.removeprefix(f"{base}/"))

    def request_id(self, config: ConfigT) -> str | None:
        """A request that was submitted earlier, which is followed in place of a new one."""
        return None

    def static(self, config: ConfigT) -> dict[str, Any] | None:
        """Arguments that replace ours."""
        return None

    async def call(
        self,
        assignment: Assignment[ConfigT],
        part: str,
        app: str,
        arguments: dict[str, Any],
        *,
        needs_files: bool = True,
    ) -> Collected:
        """Have an app do a part of the task; its id goes into the metadata.

        Raises:
            ProviderFailed, CallUncertain, LeaseLost: as `JobCalls.queued`.
        """
        settings = assignment.settings
        protocol = FalQueue(self.account(settings), settings.fal_queue_url, app, needs_files=needs_files)
        body = merged(arguments, self.static(assignment.config))
        collected = await queued(assignment, part, protocol, body, followed=self.request_id(assignment.config))
        assignment.context.note(fal_request_id=collected.vendor_id, fal_app_id=app)
        return collected

    async def edit(self, assignment: Assignment[ConfigT], operation: Edit, app: str) -> None:
        """Have an app edit the image, and publish the result at the size of the task. Raises what `call` does."""
        made = await self.call(assignment, "image", app, await edit_arguments(operation, app, assignment.context))
        if operation.mask is not None:
            await publish_inpainted(assignment.context, made, operation, model=app)
            return
        size = operation.width, operation.height
        await publish_at(assignment.context, made, size, seed=operation.seed, model=app)

    async def refine(self, assignment: Assignment[ConfigT], operation: Refine, app: str) -> None:
        """The same for an upscaler that adds detail."""
        made = await self.call(assignment, "image", app, await refine_arguments(operation, assignment.context))
        size = operation.width, operation.height
        await publish_at(assignment.context, made, size, seed=operation.seed, model=app)


def app_for(settings: Settings, purpose: str, chosen: str | None, field: str) -> str:
    """The app of an operation: the one that is `chosen` by `field`, or that of the settings.

    Raises:
        InvalidInput: it is no app's id, or there is none.
    """
    app = chosen or settings.fal_apps.get(purpose)
    if app is None:
        raise InvalidInput(f"Name an app: COMPUTE_FAL_APPS has none for {purpose}.", field=field)
    if not is_app_id(app):
        raise InvalidInput("The id of an app is its owner and its name, as in fal-ai/flux/dev.", field=field)
    return app
