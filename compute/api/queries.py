"""Lists of tasks: the filters of the contract, newest first."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.tables import Task
from compute.schemas.enums import TaskStatus, TaskType

__all__ = ["GenerationQuery", "TaskQuery", "find"]


class _Filters(BaseModel):
    model_config = ConfigDict(extra="ignore")

    limit: int = Field(default=100, ge=1, le=1000, description="At most this many tasks.")
    skip: int = Field(default=0, ge=0, le=1_000_000, description="Leave out this many of the newest.")
    status: TaskStatus | None = Field(default=None, description="Only tasks in this status.")
    origin_instance: str | None = Field(default=None, description="Only tasks from this installation.")
    origin_zone: str | None = Field(default=None, description="Only tasks from this zone.")
    origin_tenant_id: str | None = Field(default=None, description="Only tasks of this tenant.")

    @field_validator("status", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value


class TaskFilters(_Filters):
    """The query of `GET /tasks/`."""

    task_type: TaskType | None = Field(default=None, description="Only tasks of this type.")


class GenerationFilters(_Filters):
    """The query of `GET /tasks/generation`."""

    workflow_id: str | None = Field(default=None, description="Only tasks of this workflow.")


async def find(session: AsyncSession, filters: _Filters, **also: Any) -> list[Task]:
    """Tasks that match, newest first, without those that were cleaned up."""
    wanted = filters.model_dump(exclude={"limit", "skip"}, exclude_none=True) | also
    rows = await session.scalars(
        select(Task)
        .where(Task.deleted_at.is_(None))
        .filter_by(**wanted)
        .order_by(Task.created_at.desc(), Task.id.desc())
        .offset(filters.skip)
        .limit(filters.limit)
    )
    return list(rows)


TaskQuery = Annotated[TaskFilters, Query()]
GenerationQuery = Annotated[GenerationFilters, Query()]
