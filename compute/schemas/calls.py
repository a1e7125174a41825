"""Answers about providers elsewhere and the paid calls that are made to them, and what an operator says of one."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from compute.schemas.enums import ErrorCategory, ProviderCapability, ProviderType, TaskType
from compute.schemas.rules.strict import JsonBody

__all__ = [
    "CallStateName",
    "ProviderAccountPublic",
    "ProviderCallList",
    "ProviderCallPublic",
    "ProviderPublic",
    "ServiceRequestPublic",
    "SettleAction",
    "SettleCall",
]

CallStateName = Literal["INTENT", "ACCEPTED", "COLLECTED", "FAILED", "UNCERTAIN", "CANCELLED", "GIVEN_UP", "RESENT"]
SettleAction = Literal["collect", "give_up", "send_again"]


class ProviderAccountPublic(BaseModel):
    """An account at a vendor, and how it is. Its id tells accounts apart, and not their keys."""

    vendor: str
    account: str
    breaker: Literal["CLOSED", "OPEN", "HALF_OPEN"] = Field(
        description="OPEN: it has failed too often in a row and is left alone; HALF_OPEN: one call finds out how it is."
    )
    open_until: datetime | None = Field(default=None, description="While the breaker is OPEN.")
    paused_until: datetime | None = Field(default=None, description="While the vendor wants to be left alone.")
    failures: int = Field(description="Failures in a row.")


class ProviderPublic(BaseModel):
    """A provider: what it can do, and how it is."""

    name: ProviderType
    queue: str | None = Field(default=None, description="Where its tasks wait; null for the queue of their type.")
    ready: bool = Field(description="Whether its settings are there.")
    missing: str | None = Field(default=None, description="Which setting is missing, in a sentence that names it.")
    capabilities: dict[TaskType, list[ProviderCapability]] = Field(description="By the type of a task.")
    accounts: list[ProviderAccountPublic] = Field(description="The accounts that pay for its tasks.")
    in_flight: int = Field(description="Calls that the vendor may be working on; up to 10,000 are counted.")
    uncertain: int = Field(description="Calls whose outcome is unknown; up to 10,000 are counted.")


class ServiceRequestPublic(BaseModel):
    """One request to a vendor. There is no body, no header and no query in it."""

    method: str
    host: str
    path: str
    status: int | None = Field(default=None, description="The answer's; null without one.")
    ms: float = Field(description="From sending to the end of the answer, of all `times` together.")
    request_id: str | None = Field(default=None, description="The vendor's id of the request.")
    error: str | None = None
    times: int = Field(default=1, description="How often it was made in a row, with the same answer.")


class ProviderCallPublic(BaseModel):
    """A paid call."""

    id: UUID
    state: CallStateName
    task_id: UUID | None = Field(default=None, description="Null for a call without a task, such as an evaluation's.")
    part: str = Field(description="The part of its task.")
    attempt: int = Field(description="Counts the calls for one part.")
    tenant: str | None = None
    task_type: TaskType | None = None
    provider: str
    vendor: str
    account: str
    endpoint: str = Field(description="Host and path.")
    vendor_id: str | None = Field(default=None, description="The vendor's id of the request.")
    error: str | None = None
    error_category: ErrorCategory | None = None
    units: dict[str, float] = Field(default_factory=dict, description="What is paid for.")
    amount: float | None = Field(default=None, description="In `currency`; null where COMPUTE_PRICES has no price.")
    currency: str
    created_at: datetime
    accepted_at: datetime | None = None
    uncertain_at: datetime | None = None
    ended_at: datetime | None = None
    settled: str | None = Field(
        default=None, description="Who found out what became of it: an operator's action, or `webhook`."
    )
    settled_at: datetime | None = None
    files: list[str] | None = Field(default=None, description="Storage paths of its result. Not in lists.")
    requests: list[ServiceRequestPublic] | None = Field(
        default=None, description="All requests that were made for it. Not in lists."
    )


class ProviderCallList(BaseModel):
    """A page of calls, newest first."""

    calls: list[ProviderCallPublic]
    counts: dict[CallStateName, int] = Field(
        description="How many calls are in each state, whatever the filters; up to 1,000 of each are counted."
    )
    next_cursor: str | None = None


class SettleCall(JsonBody):
    """What an operator says of a call whose outcome is unknown."""

    action: SettleAction = Field(
        description="`collect`: the vendor has it, under `vendor_id`, and its result is taken as if its answer had "
        "never been lost. `give_up`: it is written off, and its task fails. `send_again`: it is not at the vendor, and "
        "the task sends it once more."
    )
    vendor_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{1,128}$",
        description="The vendor's id of the request, as its dashboard shows it. `collect` alone takes it.",
    )
