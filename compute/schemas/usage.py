"""Answers about what was used, and what it cost."""

from datetime import date

from pydantic import BaseModel, Field

__all__ = ["TaskUsage", "UsageList", "UsageSum"]


class TaskUsage(BaseModel):
    """What a task has used. Units that nobody told are null."""

    calls: int = Field(default=0, description="Paid calls whose results were collected.")
    uncertain_calls: int = Field(default=0, description="Calls that may have been paid, and that nothing is known of.")
    images: float | None = None
    megapixels: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    seconds: float | None = Field(default=None, description="Of clips.")
    credits: float | None = Field(default=None, description="The vendor's own unit.")
    gpu_seconds: float | None = Field(default=None, description="For how long a model of this cluster worked.")
    amount: float | None = Field(default=None, description="In `currency`; null where COMPUTE_PRICES has no price.")
    currency: str


class UsageSum(BaseModel):
    """The sums of one group. What is not grouped by is null; so are the tenant and the type of calls without a task."""

    day: date | None = Field(default=None, description="In UTC.")
    tenant: str | None = Field(default=None, description="`default` for tasks without one.")
    task_type: str | None = None
    provider: str | None = None
    tasks: int = Field(description="Tasks that a worker has completed.")
    calls: int = Field(description="Paid calls whose results were collected, also of tasks that failed later.")
    images: float
    megapixels: float
    input_tokens: float
    output_tokens: float
    seconds: float
    credits: float
    gpu_seconds: float
    amount: float = Field(description="By the prices at the time; what has no price counts as 0.")


class UsageList(BaseModel):
    """Sums of some days, in the order of what they are grouped by."""

    first: date = Field(description="The first day that is counted, in UTC.")
    last: date = Field(description="The last day that is counted.")
    currency: str
    usage: list[UsageSum]
    next_cursor: str | None = None
