"""The ids of the work at hand, kept in a context variable: asyncio tasks inherit them, and every log line carries them.

Example:
    with bound(task_id=task.id):
        _log.info("accepted")  # {"message": "accepted", "task_id": "0198…", …}
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

__all__ = ["NAMES", "bind_process", "bound", "bound_ids"]

NAMES = ("task_id", "workflow_id", "step_id", "training_id", "request_id", "trace_id")
"""The ids that log lines may carry, in their order."""

_of_process: dict[str, str] = {}
_ids: ContextVar[Mapping[str, str]] = ContextVar("ids_of_the_work", default={})  # noqa: B039 - never changed in place


def bound_ids() -> Mapping[str, str]:
    """Those of the present context."""
    return {**_of_process, **_ids.get()} if _of_process else _ids.get()


def bind_process(**ids: UUID | str | None) -> None:
    """Add ids to all log lines of this process, which works for one thing alone, in whatever thread."""
    _of_process.update(_given(ids))


@contextmanager
def bound(**ids: UUID | str | None) -> Iterator[None]:
    """Add ids within the block, and in the asyncio tasks that are created there."""
    token = _ids.set({**_ids.get(), **_given(ids)})
    try:
        yield
    finally:
        _ids.reset(token)


def _given(ids: Mapping[str, UUID | str | None]) -> dict[str, str]:
    return {name: str(value) for name, value in ids.items() if value is not None}
