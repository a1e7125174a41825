"""LoRA files: what is sent with one, and the answers."""

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
    """What a LoRA shows."""

    SUBJECT = "SUBJECT"
    PRODUCT = "PRODUCT"
    STYLE = "STYLE"


class UploadForm(BaseModel):
    """The fields of an upload beside the file."""

    model_config = ConfigDict(extra="forbid")

    entity_type: str | None = Field(
        default=None,
        max_length=64,
        description="What it shows: clothes, identities (or subject), product, styles. It decides the folder.",
    )
    use_safe_filename: Flag = Field(
        default=True,
        description="What happens when the name is taken: true stores the file as `…_v2` (or answers the stored one, "
        "if it is the same file), false refuses the upload as a conflict.",
    )


_Binary = Annotated[
    bytes, WithJsonSchema({"type": "string", "format": "binary"}), Field(description="The LoRA file, up to 500 MB.")
]


class Body_upload_lora(UploadForm):  # noqa: N801 - the contract's name
    """A LoRA and where it belongs, as multipart/form-data."""

    file: _Binary


class Body_admin_upload_lora(UploadForm):  # noqa: N801 - the contract's name
    """A LoRA and where it belongs, as multipart/form-data."""

    file: _Binary
    entity_type: str | None = Field(
        default=None,
        max_length=64,
        description="What it shows: clothes, faces, identities (or subject), product, styles. It decides the folder.",
    )


class LoRAUploadResponse(BaseModel):
    """A LoRA that can be used from now on."""

    file_path: str = Field(description="Its storage path.", examples=["loras/identities/my_lora.safetensors"])
    partial_path: str = Field(
        description="The path by which tasks name it, and DELETE.", examples=["identities/my_lora.safetensors"]
    )
    filename: str = Field(description="The name that it was sent with.", examples=["my_lora.safetensors"])
    file_size: int = Field(description="Bytes that were uploaded.", examples=[142857])
    upload_timestamp: datetime
    stored_size: int = Field(description="Bytes of the stored safetensors file.")
    sha256: str = Field(description="Of the stored safetensors file, in hex.")
    created: bool = Field(description="False if this very file was there before; then it was not stored again.")
    rank: int = Field(description="The largest rank among its layers.")
    layers: int = Field(description="How many linear layers of the transformer it adapts.")


class AdminLoRAUploadResponse(LoRAUploadResponse):
    """A LoRA that can be used from now on."""

    entity_type: str = Field(description="The folder that it was put into.", examples=["identities"])


class LoRADeleteRequest(JsonBody):
    """Which LoRA goes."""

    partial_path: str = Field(
        description="As the upload answered it.", max_length=512, examples=["identities/my_lora.safetensors"]
    )


class LoRADeleteResponse(BaseModel):
    """A LoRA that was moved into the bin."""

    deleted: bool = True
    full_path: str = Field(description="The storage path that it had.")
    bin_path: str | None = Field(default=None, description="The storage path that it has now.")
    timestamp: datetime


class StoredLoRA(BaseModel):
    """A LoRA in the store."""

    partial_path: str
    file_size: int = Field(description="Bytes.")
    modified: datetime


class LoRAList(BaseModel):
    """LoRAs in order of their paths."""

    loras: list[StoredLoRA]
    count: int
    next_cursor: str | None = Field(default=None, description="The `cursor` of the next page; null on the last one.")
