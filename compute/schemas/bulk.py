"""Request body that submits several tasks at once."""

from typing import Any

from pydantic import Field

from compute.schemas.rules.strict import JsonBody

__all__ = ["BulkTasks"]


class BulkTasks(JsonBody):
    """Tasks that are accepted together or not at all. Each is a body of `POST /tasks/`."""

    tasks: list[dict[str, Any]] = Field(min_length=1, description="The tasks; the answer has the same order.")
