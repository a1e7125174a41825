"""Many tasks in one request."""

from typing import Any

from pydantic import Field

from compute.schemas.rules.strict import JsonBody

__all__ = ["BulkTasks"]


class BulkTasks(JsonBody):
    """Tasks that are accepted together or not at all. Each is what `POST /tasks/` takes."""

    tasks: list[dict[str, Any]] = Field(min_length=1, description="In the order in which they are answered.")
