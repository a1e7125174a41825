"""Requests and answers about LoRA files."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from compute.schemas.rules.parameters import Flag
from compute.schemas.rules.strict import JsonBody

__all__ = [
    "AdminLoRAUploadResponse",
    "Body_admin_upload_lora",
    "Body_upload_lora",
    "EntityType",
    "LoRADeleteRequest",
    "LoRADeleteResponse",
    "LoRAList",
    "LoRAUploadResponse",
    "StoredLoRA",
    "UploadForm",
]


class EntityType(StrEnum):
    """The subject of a LoRA."""

    SUBJECT = "SUBJECT"
    PRODUCT = "PRODUCT"
    STYLE = "STYLE"


class UploadForm(BaseModel):
    """The fields of an upload in addition to the file."""

    model_config = ConfigDict(extra="forbid")

    entity_type: str | None = Field(
        default=None,
        max_length=64,
        description="Its subject: clothes, identities (or subject), product, styles. It decides the folder.",
    )
    use_safe_filename: Flag = Field(
        default=True,
        description="Behaviour when the name is taken: true stores the file as `…_v2` (or answers the stored one, "
        "if it is the same file), false refuses the upload as a conflict.",
    )


_Binary = Annotated[
    bytes, WithJsonSchema({"type": "string", "format": "binary"}), Field(description="The LoRA file, up to 500 MB.")
]


class Body_upload_lora(UploadForm):  # noqa: N801 - the contract's name
    """A LoRA file and its subject, as multipart/form-data."""

    file: _Binary


class Body_admin_upload_lora(UploadForm):  # noqa: N801 - the contract's name
    """A LoRA file and its subject, as multipart/form-data."""

    file: _Binary
    entity_type: str | None = Field(
        default=None,
        max_length=64,
        description="Its subject: clothes, faces, identities (or subject), product, styles. It decides the folder.",
    )


class LoRAUploadResponse(BaseModel):
    """The stored LoRA, ready for use."""

    file_path: str = Field(description="Its storage path.", examples=["loras/identities/my_lora.safetensors"])
    partial_path: str = Field(
        description="The path for tasks and for DELETE.", examples=["identities/my_lora.safetensors"]
    )
    filename: str = Field(description="The uploaded file's name.", examples=["my_lora.safetensors"])
    file_size: int = Field(description="Size of the uploaded file in bytes.", examples=[142857])
    upload_timestamp: datetime
    stored_size: int = Field(description="Size of the stored safetensors file in bytes.")
    sha256: str = Field(description="SHA-256 of the stored safetensors file, in hex.")
    created: bool = Field(description="False if the same file was stored before; then it was not stored again.")
    rank: int = Field(description="The largest rank among its layers.")
    layers: int = Field(description="Number of linear layers of the transformer that it adapts.")


class AdminLoRAUploadResponse(LoRAUploadResponse):
    """The stored LoRA, ready for use."""

    entity_type: str = Field(description="The folder that it was stored in.", examples=["identities"])


class LoRADeleteRequest(JsonBody):
    """Names the LoRA to delete."""

    partial_path: str = Field(
        description="The path that the upload answered.", max_length=512, examples=["identities/my_lora.safetensors"]
    )


class LoRADeleteResponse(BaseModel):
    """A LoRA that was moved to the bin."""

    deleted: bool = True
    full_path: str = Field(description="Its former storage path.")
    bin_path: str | None = Field(default=None, description="Its storage path in the bin.")
    timestamp: datetime


class StoredLoRA(BaseModel):
    """A LoRA in the store."""

    partial_path: str
    file_size: int = Field(description="Bytes.")
    modified: datetime


class LoRAList(BaseModel):
    """LoRAs, ordered by path."""

    loras: list[StoredLoRA]
    count: int
    next_cursor: str | None = Field(default=None, description="The `cursor` of the next page; null on the last one.")
