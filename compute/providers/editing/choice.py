"""Which editor the settings choose, and who pays for it."""

from collections.abc import Callable

from compute.errors import InvalidInput, TaskFailed
from compute.providers.calls.account import Account
from compute.providers.calls.job import JobCalls
from compute.providers.editing.editor import ImageEditor
from compute.providers.vendors.google.account import account as google_account
from compute.settings import Settings
from compute.worker.context import RunContext

__all__ = ["LOCAL", "LOCAL_QUEUE", "editor_account", "open_editor"]

LOCAL = "LOCAL"
LOCAL_QUEUE = "inference"
"""The queue whose workers have the models that edit."""


def editor_account(settings: Settings, *, user: str) -> Account:
    """The account that pays for edits; `user` is the provider that a message names.

    Raises:
        InvalidInput: a setting is missing, or nobody is paid.
    """
    if settings.image_editor == "VERTEX":
        return google_account(settings, user=user)
    raise InvalidInput(
        f"The setting COMPUTE_IMAGE_EDITOR is {settings.image_editor}, which is not set up here; VERTEX and LOCAL are.",
        field="provider_type",
    )


def open_editor(context: RunContext, calls: JobCalls, settings: Settings, *, user: str) -> ImageEditor:
    """The editor for one run of a task.

    Raises:
        TaskFailed: the settings have changed since the task was accepted, and its worker has no such editor.
    """
    opened = _EDITORS.get(settings.image_editor)
    if opened is None:
        raise TaskFailed(
            f"The setting COMPUTE_IMAGE_EDITOR is {settings.image_editor}, whose tasks wait in another queue than this."
        )
    return opened(context, calls, settings, user)


def _vertex(context: RunContext, calls: JobCalls, settings: Settings, user: str) -> ImageEditor:
    from compute.providers.editing.vertex import VertexEditor

    return VertexEditor(context, calls, settings, user=user)


_EDITORS: dict[str, Callable[[RunContext, JobCalls, Settings, str], ImageEditor]] = {"VERTEX": _vertex}
