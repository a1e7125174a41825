"""Answers about the audit log."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

__all__ = ["AuditEntryPublic", "AuditList"]


class AuditEntryPublic(BaseModel):
    """A request that changed something, or that only an administrator may send."""

    id: UUID
    created_at: datetime = Field(description="When it was answered.")
    request_id: str = Field(description="`X-Request-Id` of the answer.")
    key_id: UUID | None = Field(default=None, description="Null for the two keys of the settings.")
    key_name: str
    tenant: str | None = Field(default=None, description="The tenant to which the key is bound.")
    address: str = Field(description="Who sent it: with a proxy in front, that.")
    forwarded_for: str | None = Field(default=None, description="`X-Forwarded-For`, which anybody can write.")
    operation: str = Field(description="The `operationId` of this document.")
    objects: list[str] = Field(description="Ids and paths of what it is about or made; at most a hundred.")
    status: int = Field(description="Of the answer; 0 if the client went before.")


class AuditList(BaseModel):
    """A page of the audit log, newest first."""

    entries: list[AuditEntryPublic]
    next_cursor: str | None = None
