"""Many tasks in one request."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["BulkTasks"]


class BulkTasks(BaseModel):
    """Tasks that are accepted together or not at all. Each is what `POST /tasks/` takes."""

    model_config = ConfigDict(extra="forbid")

    tasks: list[dict[str, Any]] = Field(min_length=1, description="In the order in which they are answered.")
