"""Answers as the client returns them: the schemas of the API, with what makes them handy in Python.

Words of enumerations that this version does not know are plain strings, and fields that it does not know are
attributes like all others.
"""

from typing import TYPE_CHECKING, Any

from compute.client.common.reading import is_ended
from compute.schemas.tasks import TaskPublic
from compute.schemas.training import TrainingTask
from compute.schemas.workflows import WorkflowPublic

__all__ = ["Task", "Training", "Workflow"]

_PATHS = ("result_image_path", "result_video_path", "result_path")
_URLS = ("result_image_url", "result_video_url", "result_url")


class Task(TaskPublic):
    """A task of any type: what all types share, and the results of each. The fields of its request that the answer
    repeats are attributes, too: `task.prompt`.

    Attributes:
        result_image_paths: The storage paths of all images; `result_image_path` is the first.
        result_text: What a language model said.
    """

    task_type: str
    result_image_path: str | None = None
    result_image_url: str | None = None
    result_image_paths: list[str] | None = None
    result_image_urls: list[str] | None = None
    result_video_path: str | None = None
    result_video_url: str | None = None
    result_path: str | None = None
    result_url: str | None = None
    result_text: str | None = None
    seed: int | None = None

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """A field that only some types of tasks have."""

    @property
    def ended(self) -> bool:
        """Whether it is COMPLETED, FAILED or CANCELLED."""
        return is_ended(self)

    @property
    def paths(self) -> list[str]:
        """The storage paths of its results, images and clips, without repetition."""
        return _all(self.result_image_paths, [getattr(self, name) for name in _PATHS])

    @property
    def urls(self) -> list[str]:
        """Links to its results that need no key and expire, in the order of `paths`."""
        return _all(self.result_image_urls, [getattr(self, name) for name in _URLS])

    @property
    def error(self) -> str | None:
        """The last error; None if there is none."""
        return _last(self.errors)

    def digest(self, path: str) -> str | None:
        """The SHA-256 of a result, in hex; None where the task does not say it."""
        metadata: Any = self.metadata
        outputs = metadata.get("outputs") if isinstance(metadata, dict) else None
        known = outputs if isinstance(outputs, list) else []
        found = [one.get("sha256") for one in known if isinstance(one, dict) and one.get("path") == path]
        return str(found[0]) if found and found[0] else None


class Workflow(WorkflowPublic):
    """A workflow with its steps."""

    @property
    def ended(self) -> bool:
        """Whether it is COMPLETED, FAILED or CANCELLED."""
        return is_ended(self)

    @property
    def error(self) -> str | None:
        """Why it failed; None if it has not."""
        return _last(self.error_message) or _last(self.errors)


class Training(TrainingTask):
    """A training: how far it is, what it measures, and the model that came of it."""

    @property
    def ended(self) -> bool:
        """Whether it is COMPLETED, FAILED or CANCELLED."""
        return is_ended(self)

    @property
    def error(self) -> str | None:
        """Why it failed; None if it has not."""
        return _last(self.error_message)


def _all(several: Any, single: list[Any]) -> list[str]:
    """Texts without repetition; what a server says otherwise is none."""
    found = [*(several if isinstance(several, list) else [several]), *single]
    return list(dict.fromkeys(one for one in found if one and isinstance(one, str)))


def _last(said: Any) -> str | None:
    """The last of several errors, or the only one."""
    found = (said[-1] if said else None) if isinstance(said, list) else said
    return None if found is None else str(found)
