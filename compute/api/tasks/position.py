"""`Last-Event-ID`: where a stream of a task goes on after a lost connection.

    1842-3-120-3571

It says what the client has seen: the last move of the task in its event log, how many characters of the text of which
attempt, and the progress. Clients need not understand it.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Self

from fastapi import Header
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.tables import Task, TaskEvent
from compute.errors import BadRequest
from compute.schemas.enums import TaskStatus
from compute.tasks.states import TERMINAL

__all__ = ["LAST_EVENT_ID", "LastEventHeader", "Position", "has_seen_the_end"]

LAST_EVENT_ID = "Last-Event-ID"
_PATTERN = re.compile(r"(\d{1,18})-(\d{1,18})-(\d{1,9})-(\d{1,5})", re.ASCII)
_REFUSAL = f"Header `{LAST_EVENT_ID}` must be the `id` of an event of this stream, as it was."
LastEventHeader = Annotated[
    str | None,
    Header(
        alias=LAST_EVENT_ID,
        max_length=64,
        description="The `id` of the last event that was received: the stream goes on behind it. Without it, it begins "
        "with the present state.",
    ),
]


@dataclass(slots=True)
class Position:
    """What has been sent of a stream.

    Attributes:
        move: The id of the last move of the task.
        fence: The attempt whose text was sent.
        characters: How many of that text.
        hundredths: The progress since that move, in hundredths of a percent.
    """

    move: int = 0
    fence: int = 0
    characters: int = 0
    hundredths: int = 0

    @classmethod
    def read(cls, header: str) -> Self:
        """The position that an id says.

        Raises:
            BadRequest: it is none of ours.
        """
        found = _PATTERN.fullmatch(header)
        if found is None:
            raise BadRequest(_REFUSAL)
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"{self.move}-{self.fence}-{self.characters}-{self.hundredths}"


async def has_seen_the_end(session: AsyncSession, task: Task, position: Position) -> bool:
    """Whether the last event that the client has is the last one there is.

    Raises:
        BadRequest: the position is one of another task, or of none.
    """
    if position.move == 0:
        # A task without an event log: one that was put in from elsewhere.
        return False
    seen = await session.scalar(
        select(TaskEvent.status).where(TaskEvent.task_id == task.id, TaskEvent.id == position.move)
    )
    if seen is None:
        raise BadRequest(_REFUSAL)
    return TaskStatus(seen) in TERMINAL
