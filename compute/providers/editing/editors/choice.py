"""Which editor the settings choose, and who pays for it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from compute.errors import InvalidInput, TaskFailed
from compute.providers.calls.account import Account
from compute.providers.calls.job import JobCalls
from compute.providers.editing.editor import ImageEditor
from compute.providers.vendors.fal.queue import fal_account
from compute.providers.vendors.fashn import fashn_account
from compute.providers.vendors.google.account import account as google_account
from compute.settings import Settings
from compute.worker.context import RunContext

__all__ = ["LOCAL", "LOCAL_QUEUE", "editor_account", "most_references", "open_editor"]

LOCAL = "LOCAL"
LOCAL_QUEUE = "inference"
"""The queue whose workers have the models that edit."""


class _Opens(Protocol):
    def __call__(self, context: RunContext, calls: JobCalls, settings: Settings, *, user: str) -> ImageEditor: ...


class _Pays(Protocol):
    def __call__(self, settings: Settings, *, user: str) -> Account: ...


@dataclass(frozen=True, slots=True)
class _Choice:
    """One editor. `opens` returns what opens it, loaded only then, because OpenCV comes with it."""

    account: _Pays
    opens: Callable[[], _Opens]
    references: int


def editor_account(settings: Settings, *, user: str) -> Account:
    """The account that pays for edits; `user` is the provider that a message names.

    Raises:
        InvalidInput: a setting is missing, or names no editor that is paid.
    """
    choice = _CHOICES.get(settings.image_editor)
    if choice is None:
        known = ", ".join([*_CHOICES, LOCAL])
        raise InvalidInput(
            f"The setting COMPUTE_IMAGE_EDITOR is {settings.image_editor}; it may be {known}.", field="provider_type"
        )
    return choice.account(settings, user=user)


def most_references(settings: Settings) -> int:
    """How many references the chosen editor looks at."""
    choice = _CHOICES.get(settings.image_editor)
    return _LOCAL_REFERENCES if choice is None else choice.references


def open_editor(context: RunContext, calls: JobCalls, settings: Settings, *, user: str) -> ImageEditor:
    """The editor for one run of a task.

    Raises:
        TaskFailed: the settings have changed since the task was accepted, and its worker has no such editor.
    """
    choice = _CHOICES.get(settings.image_editor)
    if choice is None:
        raise TaskFailed(
            f"The setting COMPUTE_IMAGE_EDITOR is {settings.image_editor}, whose tasks wait in another queue than this."
        )
    return choice.opens()(context, calls, settings, user=user)


def _vertex() -> _Opens:
    from compute.providers.editing.editors.vertex import VertexEditor

    return VertexEditor


def _fal() -> _Opens:
    from compute.providers.editing.editors.queued import fal_editor

    return fal_editor


def _fashn() -> _Opens:
    from compute.providers.editing.editors.queued import fashn_editor

    return fashn_editor


_LOCAL_REFERENCES = 4
_CHOICES = {
    "VERTEX": _Choice(google_account, _vertex, references=8),
    "FAL_STANDARD": _Choice(fal_account, _fal, references=4),
    "FASHN_STANDARD": _Choice(fashn_account, _fashn, references=1),
}
