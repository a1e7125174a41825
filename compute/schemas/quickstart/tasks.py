"""A task in the quick-start dialect."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

__all__ = ["QuickstartFile", "QuickstartOutput", "QuickstartStatus", "QuickstartTask"]

QuickstartStatus = Literal["pending", "running", "completed", "failed", "cancelled"]


class QuickstartFile(BaseModel):
    """One result."""

    url: str = Field(description="Downloads without a key, until it expires.")
    seed: int | None = None


class QuickstartOutput(BaseModel):
    """The results of a completed task."""

    images: list[QuickstartFile] = []
    videos: list[QuickstartFile] | None = None


class QuickstartTask(BaseModel):
    """A task with lower-case words and progress from 0 to 1."""

    id: str = Field(description="`task_` and 32 hex digits: the task's UUID without its dashes.")
    type: str = Field(examples=["generation"])
    status: QuickstartStatus
    progress: float = Field(default=0.0, ge=0, le=1)
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    output: QuickstartOutput | None = None
    error: str | None = Field(default=None, description="The reason of a failure, in one line.")
