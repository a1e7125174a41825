"""/lora and /admin/lora: bring LoRA files in, see them, put them into the bin."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from compute.api.access.audit import note_made
from compute.api.bodies.json_body import json_object
from compute.api.bodies.multipart import Upload, received
from compute.api.deps import LinksDep, require_admin_key, require_key, resources_of
from compute.api.http.connected import while_connected
from compute.api.http.strict import StrictRoute
from compute.api.http.well_formed import announced
from compute.api.idempotency.keys import Answer, IdempotencyHeader, IdempotentRequest
from compute.api.openapi.request_bodies import LORA_DELETE_BODY, form_body
from compute.api.paging import PAGED, PATH_CURSOR, Page, cursor_of, json_list, list_answer, position_of
from compute.api.paths import API
from compute.errors import BadRequest, InvalidInput
from compute.lora.filenames import folder_of
from compute.lora.library import LoraFiles, SavedLora, sha256_of
from compute.requests.validate import validate
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
from compute.schemas.rules.parameters import WholeNumber
from compute.storage.base import StoredObject
from compute.storage.paths import LORAS

__all__ = ["UPLOAD_PATHS", "admin_router", "router"]

router = APIRouter(prefix="/lora", tags=["lora"], dependencies=[Depends(require_key)], route_class=StrictRoute)
admin_router = APIRouter(
    prefix="/admin/lora", tags=["admin"], dependencies=[Depends(require_admin_key)], route_class=StrictRoute
)

UPLOAD_PATHS = (f"{API}/lora/upload", f"{API}/admin/lora/upload")
"""Whose bodies may be as large as a LoRA."""

_LISTED = "loras"
_ADMIN_FOLDERS = frozenset({"faces"})
_TAKEN: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "The name is taken, and `use_safe_filename` is false."},
    413: {"model": Problem, "description": "The file is larger than 500 MB (as shipped)."},
}
_NO_ADMIN: dict[int | str, dict[str, Any]] = {
    403: {"model": Problem, "description": "Not the admin key, or none is configured."}
}


@router.post(
    "/upload",
    status_code=201,
    operation_id="upload_lora",
    responses=_TAKEN,
    response_model=LoRAUploadResponse,
    openapi_extra=form_body("Body_upload_lora"),
)
async def upload_lora(request: Request, key: IdempotencyHeader = None) -> Response:
    """Bring a LoRA in: .safetensors, .ckpt, .pt, .pth or .bin, up to 500 MB (as shipped).

    It is checked, made safetensors if it is not, and stored under `loras/<folder>/`. A GENERATION task can name its
    `partial_path` as soon as this returns, whichever node runs it. Files are opened without running code.
    """
    return await _save(request, key, admin=False)


@admin_router.post(
    "/upload",
    status_code=201,
    operation_id="admin_upload_lora",
    responses=_TAKEN | _NO_ADMIN,
    response_model=AdminLoRAUploadResponse,
    openapi_extra=form_body("Body_admin_upload_lora"),
)
async def admin_upload_lora(request: Request, key: IdempotencyHeader = None) -> Response:
    """Bring a LoRA in, as `/lora/upload` does; the entity type `faces` is open here, too."""
    return await _save(request, key, admin=True)


@admin_router.delete("", operation_id="admin_delete_lora", responses=_NO_ADMIN, openapi_extra=LORA_DELETE_BODY)
async def delete_lora(request: Request) -> LoRADeleteResponse:
    """Move a LoRA into the bin, out of which an operator can bring it back.

    Tasks that run go on with their copy; tasks that wait for it end as FAILED with INVALID_INPUT.
    """
    body = validate(LoRADeleteRequest, await json_object(request))
    deleted = await _loras(request).delete(body.partial_path)
    note_made(request.scope, deleted.path)
    return LoRADeleteResponse(full_path=deleted.path, bin_path=deleted.bin_path, timestamp=deleted.at)


@router.get("", response_model=LoRAList, responses=PAGED)
async def list_loras(
    request: Request,
    links: LinksDep,
    entity_type: Annotated[str | None, Query(min_length=1, max_length=64, description="Only this folder.")] = None,
    limit: Annotated[WholeNumber, Query(ge=1, le=1000, description="At most this many.")] = 100,
    cursor: Annotated[str | None, PATH_CURSOR] = None,
) -> Response:
    """The LoRAs that tasks can name. The header `Link` leads to the next page."""
    folder = None if entity_type is None else _query_folder(entity_type)
    after = "" if cursor is None else position_of(_LISTED, cursor)
    found = await _loras(request).list(folder, limit + 1, after=after)
    page = Page.of(found, limit, lambda item: cursor_of(_LISTED, item.path))
    rendered = await json_list(page.rows, _listed)
    return list_answer(rendered, page.next, request, links, name="loras", rest={"count": len(page.rows)})


def _listed(item: StoredObject) -> StoredLoRA:
    return StoredLoRA(partial_path=item.path.removeprefix(LORAS), file_size=item.size, modified=item.modified)


async def _save(request: Request, key: str | None, *, admin: bool) -> Response:
    resources, loras = resources_of(request), _loras(request)
    folder_of_uploads, most = resources.settings.cache_root / "uploads", resources.settings.lora_max_bytes
    async with (
        loras.room(announced(request.headers)),
        received(request, folder_of_uploads, most, texts=UploadForm.model_fields, noun="LoRA") as upload,
    ):
        form = validate(UploadForm, upload.fields)
        folder = folder_of(form.entity_type)
        if folder in _ADMIN_FOLDERS and not admin:
            raise InvalidInput("One of clothes, identities, product, styles; faces needs /admin.", field="entity_type")
        sent = [upload.filename, await asyncio.to_thread(sha256_of, upload.file), upload.fields]
        idempotent = await IdempotentRequest.of(key, request, sent)

        async def act() -> Answer:
            checked = await while_connected(request, loras.check(upload.file, upload.filename))
            async with idempotent.once(resources.database) as session:
                saved = await loras.save(checked, folder, number_duplicates=form.use_safe_filename)
                idempotent.made(saved.path)
                answer = Answer(201, _shown(saved, upload, folder if admin else None).model_dump_json())
                await idempotent.remember(session, answer)
            return answer

        return await idempotent.settle(resources.database, act)


def _shown(saved: SavedLora, upload: Upload, folder: str | None) -> LoRAUploadResponse:
    """The answer; with `folder` an administrator's."""
    fields = _fields(saved, upload)
    return LoRAUploadResponse(**fields) if folder is None else AdminLoRAUploadResponse(**fields, entity_type=folder)


def _fields(saved: SavedLora, upload: Upload) -> dict[str, Any]:
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
        raise BadRequest(f"Parameter `{error.field}` is wrong. {error.detail}") from None


def _loras(request: Request) -> LoraFiles:
    loras: LoraFiles = request.app.state.loras
    return loras.seen_in(resources_of(request).objects)
