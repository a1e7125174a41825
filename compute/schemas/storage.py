"""Answers about stored files."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field, WithJsonSchema

__all__ = ["Body_save_image", "DeletedImage", "ImageList", "QuickstartTaskCleanup", "StoredImage", "TaskCleanup"]


class Body_save_image(BaseModel):  # noqa: N801 - the contract's way to name forms
    """An image, as multipart/form-data."""

    file: Annotated[bytes, WithJsonSchema({"type": "string", "format": "binary"}), Field(description="The image.")]


class StoredImage(BaseModel):
    """An image in the object store."""

    path: str = Field(description="Its storage path; accepted in requests wherever an image is.")
    url: str = Field(description="A link that needs no key and expires.")
    size: int = Field(description="Bytes.")
    content_type: str
    modified: datetime
    width: int | None = Field(default=None, description="Pixels; present after an upload only.")
    height: int | None = None
    sha256: str | None = None


class ImageList(BaseModel):
    """Images whose path starts with `prefix`, ordered by path."""

    images: list[StoredImage]
    count: int
    prefix: str
    next_cursor: str | None = Field(default=None, description="The `cursor` of the next page; null on the last one.")


class DeletedImage(BaseModel):
    """An image that was deleted."""

    path: str
    deleted: bool = True


class TaskCleanup(BaseModel):
    """The result of a cleanup."""

    task_id: UUID
    is_deleted: bool = True
    deleted_at: datetime
    deleted_files: int = Field(description="Files removed by this call.")


class QuickstartTaskCleanup(BaseModel):
    """The result of a cleanup, in the quick-start dialect."""

    task_id: str = Field(description="`task_` and 32 hex digits.")
    is_deleted: bool = True
    deleted_at: datetime
    deleted_files: int = Field(description="Files removed by this call.")
