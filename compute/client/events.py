"""Events of a stream, as the client yields them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compute.client.models import Task

__all__ = ["Event"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a task, workflow or training, or how far it is.

    Attributes:
        name: `status`, `progress`, `text`, or how it ended: `completed`, `failed`, `cancelled`. A newer server may
            have others.
        data: What was sent.
        id: Where the stream goes on: `events(…, after=event.id)` begins behind this event, in another process as well.
        task: The whole task, at its end.
    """

    name: str
    data: dict[str, Any]
    id: str | None = None
    task: "Task | None" = None

    @property
    def status(self) -> str | None:
        """The status, such as `EXECUTING`; None for events that tell of none."""
        found = self.data.get("status")
        return None if found is None else str(found)

    @property
    def progress(self) -> float | None:
        """In percent; None for events that tell of none."""
        found = self.data.get("progress")
        return float(found) if isinstance(found, int | float) else None

    @property
    def text(self) -> str:
        """What was said since the last event of this name, for `text`."""
        return str(self.data.get("text", ""))

    @property
    def offset(self) -> int:
        """The number of characters before `text`. 0 begins anew: another attempt answers."""
        found = self.data.get("offset", 0)
        return found if isinstance(found, int) else 0
