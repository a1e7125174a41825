"""Workflows: create, start, wait, and steer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from compute.client.aio.pages import AsyncPages
from compute.client.aio.polling import until_ended
from compute.client.aio.transport import AsyncTransport
from compute.client.common.calls import Call, body_of, id_of, json_of, post, reading, segment, with_json
from compute.client.common.reading import id_in, reader, workflow_of

if TYPE_CHECKING:
    from compute.client.models import Workflow
    from compute.schemas.workflows import WorkflowCleanupResponse

__all__ = ["AsyncWorkflows"]

WorkflowId = Any
"""A workflow, or its id in either spelling."""
_cleaned = reader("workflows", "WorkflowCleanupResponse")


class AsyncWorkflows:
    """DAGs of steps, each of which makes tasks."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        body: Any = None,
        /,
        *,
        start: bool = True,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: Any,
    ) -> Workflow:
        """Define a workflow, in either dialect, and start it unless told otherwise. Nothing is stored if it is refused.

        Args:
            body: A mapping or a model; `fields` are added to it.
        """
        given = (body_of(body) if body is not None else {}) | fields
        call = post("/workflows/", given, params={"start": start}, key=idempotency_key, timeout=timeout)
        created = await self._transport.json(call)
        # The quick start's steps get the quick start's answer.
        made = id_in(created)
        return workflow_of(created) if "total_steps" in created else await self.get(made)

    async def get(self, workflow: WorkflowId) -> Workflow:
        """Return a workflow with its steps as they are now."""
        return workflow_of(await self._transport.json(reading(_path(workflow))))

    async def wait(
        self,
        workflow: WorkflowId,
        *,
        timeout: float | None = None,
        every: float = 0.5,
        on_progress: Callable[[Workflow], object] | None = None,
        check: bool = True,
    ) -> Workflow:
        """Wait until a workflow has ended, and return it.

        A step that requires approval is waited for, too: see `awaits_approval` of its steps.

        Args:
            timeout: Seconds; None waits without end.
            every: Seconds between two looks.
            on_progress: Called with the workflow whenever it was looked at.
            check: Raise EndedBadly unless it is COMPLETED.
        """

        async def look(seconds: float) -> Workflow:
            return workflow_of(await self._transport.json(reading(_path(workflow), timeout=seconds)))

        patience = self._transport.config.timeout
        return await until_ended(
            look, "workflow", timeout=timeout, patience=patience, every=every, tell=on_progress, check=check
        )

    async def start(
        self,
        workflow: WorkflowId,
        values: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> Workflow:
        """Start a workflow that was created without. `values` are those for mappings from `$input`."""
        body = None if values is None else {"input": dict(values)}
        return await self._act(workflow, "start", body, idempotency_key)

    async def pause(self, workflow: WorkflowId, *, idempotency_key: str | None = None) -> Workflow:
        """Begin no further step; those that run go on."""
        return await self._act(workflow, "pause", None, idempotency_key)

    async def resume(
        self, workflow: WorkflowId, *, from_step: str | None = None, idempotency_key: str | None = None
    ) -> Workflow:
        """Go on: a paused workflow, or one that failed, at what has not succeeded; from a step on with `from_step`."""
        return await self._act(workflow, "resume", None, idempotency_key, {"from_step": from_step})

    async def rerun(self, workflow: WorkflowId, from_step: str, *, idempotency_key: str | None = None) -> Workflow:
        """Run a step and everything that depends on it once more; the others keep their results."""
        return await self.resume(workflow, from_step=from_step, idempotency_key=idempotency_key)

    async def approve(self, workflow: WorkflowId, step: str, *, idempotency_key: str | None = None) -> Workflow:
        """Approve a step that requires approval."""
        return await self._act(workflow, f"steps/{segment(step)}/approve", None, idempotency_key)

    async def update(self, workflow: WorkflowId, **changes: Any) -> Workflow:
        """Change the name, the description or the webhook."""
        return workflow_of(await self._transport.json(with_json(Call("PATCH", _path(workflow)), changes)))

    async def cancel(self, workflow: WorkflowId) -> Workflow:
        """Cancel a workflow that has not ended; completed steps keep their results."""
        answer = await self._transport.send(Call("DELETE", _path(workflow), done_by=frozenset({409})))
        return workflow_of(json_of(answer)) if answer.is_success else await self.get(workflow)

    async def clean_up(
        self, workflow: WorkflowId, *, cleanup_tasks: bool | None = None, idempotency_key: str | None = None
    ) -> WorkflowCleanupResponse:
        """Remove a workflow that has ended from lists, and the files of its tasks if asked for."""
        params = {"cleanup_tasks": cleanup_tasks}
        call = post(f"{_path(workflow)}/cleanup", params=params, key=idempotency_key)
        found: WorkflowCleanupResponse = _cleaned(await self._transport.json(call))
        return found

    def list(
        self,
        *,
        status: str | None = None,
        origin_instance: str | None = None,
        origin_tenant_id: str | None = None,
        include_deleted: bool | None = None,
        page_size: int | None = None,
    ) -> AsyncPages[Workflow]:
        """Workflows with their steps, newest first, fetched as they are walked."""
        params = {
            "status": status,
            "origin_instance": origin_instance,
            "origin_tenant_id": origin_tenant_id,
            "include_deleted": include_deleted,
            "limit": page_size,
        }
        return AsyncPages(self._transport, reading("/workflows/", params), "workflows", workflow_of)

    async def _act(
        self,
        workflow: WorkflowId,
        action: str,
        body: Any,
        key: str | None,
        params: Mapping[str, Any] | None = None,
    ) -> Workflow:
        call = post(f"{_path(workflow)}/{action}", body, params=params, key=key)
        return workflow_of(await self._transport.json(call))


def _path(workflow: WorkflowId) -> str:
    return f"/workflows/{id_of(workflow, 'wf_')}"
