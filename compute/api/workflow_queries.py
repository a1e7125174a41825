"""Lists of workflows: the filters of the contract, newest first."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from compute.db.tables import Workflow
from compute.schemas.enums import WorkflowStatus

__all__ = ["WorkflowQuery", "find_workflows"]


class WorkflowFilters(BaseModel):
    """The query of `GET /workflows/`."""

    model_config = ConfigDict(extra="ignore")

    limit: int = Field(default=50, ge=1, le=200, description="At most this many workflows, each with its steps.")
    skip: int = Field(default=0, ge=0, le=1_000_000, description="Leave out this many of the newest.")
    status: WorkflowStatus | None = Field(default=None, description="Only workflows in this status.")
    origin_instance: str | None = Field(default=None, description="Only workflows from this installation.")
    origin_tenant_id: str | None = Field(default=None, description="Only workflows of this tenant.")
    include_deleted: bool = Field(default=False, description="Also those that were cleaned up.")

    @field_validator("status", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value


async def find_workflows(session: AsyncSession, filters: WorkflowFilters) -> tuple[list[Workflow], int]:
    """The workflows that match, newest first, and how many there are without `skip` and `limit`."""
    wanted = filters.model_dump(exclude={"limit", "skip", "include_deleted"}, exclude_none=True)
    matching = select(Workflow).filter_by(**wanted)
    if not filters.include_deleted:
        matching = matching.where(Workflow.deleted_at.is_(None))
    total = await session.scalar(select(func.count()).select_from(matching.subquery()))
    rows = await session.scalars(
        matching.order_by(Workflow.created_at.desc(), Workflow.id.desc()).offset(filters.skip).limit(filters.limit)
    )
    return list(rows), total or 0


WorkflowQuery = Annotated[WorkflowFilters, Query()]
