"""/lora and /admin/lora: bring LoRA files in, see them, put them into the bin."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from compute.api.deps import require_admin_key, require_key, resources_of
from compute.api.upload import Upload, received
from compute.errors import BadRequest, InvalidInput
from compute.orders.order import validated
from compute.schemas.errors import Problem
from compute.schemas.lora import (
    AdminLoRAUploadResponse,
    LoRADeleteRequest,
    LoRADeleteResponse,
    LoRAList,
    LoRAUploadResponse,
    StoredLoRA,
    UploadForm,
)
from compute.storage.lora_files import LoraFiles, SavedLora
from compute.storage.lora_names import LORAS, folder_of

__all__ = ["UPLOAD_PATHS", "admin_router", "router"]

router = APIRouter(prefix="/lora", tags=["lora"], dependencies=[Depends(require_key)])
admin_router = APIRouter(prefix="/admin/lora", tags=["admin"], dependencies=[Depends(require_admin_key)])

UPLOAD_PATHS = ("/api/v1/lora/upload", "/api/v1/admin/lora/upload")
"""Whose bodies may be as large as a LoRA."""

_ADMIN_FOLDERS = frozenset({"faces"})
_TAKEN: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "The name is taken, and `use_safe_filename` is false."},
    413: {"model": Problem, "description": "The file is larger than 500 MB (as shipped)."},
}
_NO_ADMIN: dict[int | str, dict[str, Any]] = {
    403: {"model": Problem, "description": "Not the admin key, or none is configured."}
}


def _form_body(model: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model}"}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@router.post(
    "/upload",
    status_code=201,
    operation_id="upload_lora",
    responses=_TAKEN,
    openapi_extra=_form_body("Body_upload_lora"),
)
async def upload_lora(request: Request) -> LoRAUploadResponse:
    """Bring a LoRA in: .safetensors, .ckpt, .pt, .pth or .bin, up to 500 MB (as shipped).

    It is checked, made safetensors if it is not, and stored under `loras/<folder>/`. A GENERATION task can name its
    `partial_path` as soon as this returns, whichever node runs it. Files are opened without running code.
    """
    saved, upload, _ = await _save(request, admin=False)
    return LoRAUploadResponse(**_answer(saved, upload))


@admin_router.post(
    "/upload",
    status_code=201,
    operation_id="admin_upload_lora",
    responses=_TAKEN | _NO_ADMIN,
    openapi_extra=_form_body("Body_admin_upload_lora"),
)
async def admin_upload_lora(request: Request) -> AdminLoRAUploadResponse:
    """Bring a LoRA in, as `/lora/upload` does; the entity type `faces` is open here, too."""
    saved, upload, folder = await _save(request, admin=True)
    return AdminLoRAUploadResponse(**_answer(saved, upload), entity_type=folder)


@admin_router.delete("", operation_id="admin_delete_lora", responses=_NO_ADMIN)
async def delete_lora(body: LoRADeleteRequest, request: Request) -> LoRADeleteResponse:
    """Move a LoRA into the bin, out of which an operator can bring it back.

    Tasks that run go on with their copy; tasks that wait for it end as FAILED with INVALID_INPUT.
    """
    deleted = await _loras(request).delete(body.partial_path)
    return LoRADeleteResponse(full_path=deleted.path, bin_path=deleted.bin_path, timestamp=deleted.at)


@router.get("")
async def list_loras(
    request: Request,
    entity_type: Annotated[str | None, Query(max_length=64, description="Only this folder.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most this many.")] = 100,
) -> LoRAList:
    """The LoRAs that tasks can name."""
    found = await _loras(request).list(None if entity_type is None else _query_folder(entity_type), limit)
    loras = [
        StoredLoRA(partial_path=item.path.removeprefix(LORAS), file_size=item.size, modified=item.modified)
        for item in found
    ]
    return LoRAList(loras=loras, count=len(loras))


async def _save(request: Request, *, admin: bool) -> tuple[SavedLora, Upload, str]:
    settings = resources_of(request).settings
    async with received(request, settings.cache_root / "uploads", settings.lora_max_bytes) as upload:
        form = validated(UploadForm, upload.fields)
        folder = folder_of(form.entity_type)
        if folder in _ADMIN_FOLDERS and not admin:
            raise InvalidInput("One of clothes, identities, product, styles; faces needs /admin.", field="entity_type")
        saved = await _loras(request).save(
            upload.file, upload.filename, folder, number_duplicates=form.use_safe_filename
        )
    return saved, upload, folder


def _answer(saved: SavedLora, upload: Upload) -> dict[str, Any]:
    return {
        "file_path": saved.path,
        "partial_path": saved.path.removeprefix(LORAS),
        "filename": upload.filename.replace("\\", "/").rpartition("/")[2],
        "file_size": upload.size,
        "upload_timestamp": datetime.now(UTC),
        "stored_size": saved.size,
        "sha256": saved.sha256,
        "created": saved.created,
        "rank": saved.info.rank,
        "layers": saved.info.layers,
    }


def _query_folder(entity_type: str) -> str:
    try:
        return folder_of(entity_type)
    except InvalidInput as error:
        # It stands in the address, not in the payload.
        raise BadRequest(f"{error.field}: {error.detail}") from None


def _loras(request: Request) -> LoraFiles:
    held: LoraFiles = request.app.state.loras
    return held
