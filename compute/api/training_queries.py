"""Lists of trainings and of what happened to one: the filters, newest and oldest first."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, field_validator

from compute.schemas.training import TrainingStatus

__all__ = ["EventQuery", "TrainingQuery"]


class TrainingFilters(BaseModel):
    """The query of `GET /training/`."""

    model_config = ConfigDict(extra="ignore")

    limit: int = Field(default=10, ge=1, le=200, description="At most this many trainings.")
    skip: int = Field(default=0, ge=0, le=1_000_000, description="Leave out this many of the newest.")
    status: TrainingStatus | None = Field(default=None, description="Only trainings in this status.")
    origin_instance: str | None = Field(default=None, description="Only trainings from this installation.")
    origin_tenant_id: str | None = Field(default=None, description="Only trainings of this tenant.")

    @field_validator("status", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    def columns(self) -> dict[str, Any]:
        """The columns that rows must have like this."""
        return self.model_dump(exclude={"limit", "skip"}, exclude_none=True)


class EventFilters(BaseModel):
    """The query of `GET /training/{task_id}/events`."""

    model_config = ConfigDict(extra="ignore")

    after: int = Field(default=0, ge=0, le=2**63 - 1, description="Only events with a higher id.")
    limit: int = Field(default=100, ge=1, le=1000, description="At most this many events.")


TrainingQuery = Annotated[TrainingFilters, Query()]
EventQuery = Annotated[EventFilters, Query()]
