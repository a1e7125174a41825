"""/storage/images: put images in, get them out."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from compute.api.access.caller import caller_of
from compute.api.bodies.multipart import received
from compute.api.deps import Credentials, LinksDep, ResourcesDep, require_key
from compute.api.http.conditional import content_headers, requested_range, unchanged
from compute.api.http.strict import StrictRoute
from compute.api.idempotency.keys import Answer, IdempotencyHeader, IdempotentRequest
from compute.api.links import RequestLinks
from compute.api.needs import require_unneeded
from compute.api.openapi.request_bodies import form_body
from compute.api.paging import PAGED, PATH_CURSOR, Page, cursor_of, json_list, list_answer, position_of
from compute.api.resources import Resources
from compute.errors import BadRequest, Forbidden, InvalidInput, NotFound
from compute.media.loader import Media
from compute.requests.inputs import INPUTS
from compute.schemas.errors import Problem
from compute.schemas.rules.parameters import Label, WholeNumber
from compute.schemas.storage import DeletedImage, ImageList, StoredImage
from compute.storage.base import StoredObject
from compute.storage.paths import LORAS, clean_path, clean_prefix
from compute.storage.readable import is_hidden, why_hidden
from compute.storage.tenants import TenantFiles, own_folder
from compute.tasks.registry import all_kinds
from compute.training.spec import TRAININGS

router = APIRouter(prefix="/storage/images", tags=["Storage"], route_class=StrictRoute)
keyed = [Depends(require_key)]

UPLOADS = "uploads/"
IMAGE_FORM = form_body("Body_save_image")
_LISTED = "images"
_BYTES = {
    kind: {"schema": {"type": "string", "format": "binary"}}
    for kind in ("application/octet-stream", "image/jpeg", "image/png", "image/webp", "video/mp4")
}
_SERVED: dict[int | str, dict[str, Any]] = {
    200: {"content": _BYTES, "description": "The image or video, or what else a link leads to."},
    206: {"content": _BYTES, "description": "The part of it that `Range` asks for."},
    304: {"description": "The client has it already (`If-None-Match`, `If-Modified-Since`)."},
    307: {"description": "Where the image is, when the store or a CDN serves it."},
    416: {"model": Problem, "description": "`Range` begins behind its end."},
}
_CHECKED: dict[int | str, dict[str, Any]] = {
    304: {"description": "The client has it already (`If-None-Match`, `If-Modified-Since`)."},
}
Expires = Annotated[WholeNumber | None, Query(description="With `signature`: a link of ours.")]
Signature = Annotated[Label | None, Query(description="With `expires`.")]
_EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


@router.post("", status_code=201, dependencies=keyed, response_model=StoredImage, openapi_extra=IMAGE_FORM)
async def upload_image(
    request: Request, resources: ResourcesDep, links: LinksDep, key: IdempotencyHeader = None
) -> Response:
    """Store an image under a path made from its content; the same image is stored once."""
    return await _save(None, request, resources, links, key)


@router.post("/{path:path}", status_code=201, dependencies=keyed, response_model=StoredImage, openapi_extra=IMAGE_FORM)
async def save_image(
    path: str, request: Request, resources: ResourcesDep, links: LinksDep, key: IdempotencyHeader = None
) -> Response:
    """Store an image under a path of your own, replacing what is there. Folders of results are read-only. With a key of
    a tenant the path begins with the tenant's own folder, as that of an upload without a path does."""
    return await _save(_writable(path, resources), request, resources, links, key)


@router.get("", dependencies=keyed, response_model=ImageList, responses=PAGED)
async def list_images(
    request: Request,
    resources: ResourcesDep,
    links: LinksDep,
    prefix: Annotated[str, Query(max_length=512, description="Only paths that start with this.")] = "",
    limit: Annotated[WholeNumber, Query(ge=1, le=1000, description="At most this many.")] = 100,
    cursor: Annotated[str | None, PATH_CURSOR] = None,
) -> Response:
    """Stored images by path. The header `Link` leads to the next page."""
    cleaned = _cleaned(clean_prefix, prefix)
    after = "" if cursor is None else position_of(_LISTED, cursor)
    found = await resources.objects.list(cleaned, limit + 1, excluding=is_hidden, after=after)
    page = Page.of(found, limit, lambda item: cursor_of(_LISTED, item.path))
    rendered = await json_list(page.rows, lambda item: _describe(item, links))
    rest = {"count": len(page.rows), "prefix": prefix}
    return list_answer(rendered, page.next, request, links, name="images", rest=rest)


@router.head("/{path:path}", summary="Check Image Exists", responses=_CHECKED)
async def check_image(
    path: str,
    request: Request,
    resources: ResourcesDep,
    given: Credentials,
    expires: Expires = None,
    signature: Signature = None,
) -> Response:
    """200 with the image's size and type, 304 if the caller has it already, or 404; no body. What reading it needs,
    this needs: the API key, or the signature of a link."""
    found = await _permitted(path, request, resources, expires, signature)
    if unchanged(request.headers, found):
        return Response(status_code=304, headers=content_headers(found))
    headers = content_headers(found) | {"Content-Length": str(found.size)}
    return Response(headers=headers, media_type=found.content_type)


@router.get(
    "/{path:path}",
    response_class=StreamingResponse,
    responses=_SERVED,
)
async def get_image(
    path: str,
    request: Request,
    resources: ResourcesDep,
    given: Credentials,
    expires: Expires = None,
    signature: Signature = None,
) -> Response:
    """The image or video at a storage path, or a part of it (`Range: bytes=0-1023`).

    Needs the API key, or the signature of a link that an answer gave out; such a link may also lead to a LoRA.
    """
    found = await _permitted(path, request, resources, expires, signature)
    if (direct := await resources.objects.url(found.path, resources.settings.link_ttl_seconds)) is not None:
        return RedirectResponse(direct, 307)
    return _served(request, resources, found)


@router.delete("/{path:path}", dependencies=keyed)
async def delete_image(path: str, resources: ResourcesDep) -> DeletedImage:
    """Remove an image that nothing needs which has not ended yet."""
    cleaned = _readable(path)
    # What a tenant may not see is not there, whoever needs it.
    if resources.tenant is not None and await resources.objects.stat(cleaned) is None:
        raise NotFound(f"There is no image {cleaned}.")
    async with resources.database.transaction() as session:
        await require_unneeded(session, cleaned)
    if not await resources.objects.delete(cleaned):
        raise NotFound(f"There is no image {cleaned}.")
    return DeletedImage(path=cleaned)


async def _save(
    path: str | None, request: Request, resources: Resources, links: RequestLinks, key: str | None
) -> Response:
    settings = resources.settings
    async with received(request, settings.cache_root / "uploads", settings.media_max_bytes, noun="image") as upload:
        data = await asyncio.to_thread(upload.file.read_bytes)
    digest = await asyncio.to_thread(hashlib.sha256, data)
    idempotent = await IdempotentRequest.of(key, request, digest.hexdigest())

    async def act() -> Answer:
        media = await resources.media.normalise(data, field="file", keep_format=True)
        # The key is claimed before the image is written: what is refused has replaced nothing.
        async with idempotent.once(resources.database) as session:
            place = path or own_folder(resources.objects) + _content_path(media)
            stored = await resources.objects.put(place, media.data, media.content_type)
            image = await _describe(stored, links)
            image = image.model_copy(update={"width": media.width, "height": media.height, "sha256": media.sha256})
            answer = Answer(201, image.model_dump_json())
            idempotent.made(*(() if path else (stored.path,)))
            await idempotent.remember(session, answer)
        return answer

    return await idempotent.settle(resources.database, act)


def _content_path(media: Media) -> str:
    return f"{UPLOADS}{media.sha256[:2]}/{media.sha256}.{_EXTENSIONS[media.content_type]}"


def _writable(path: str, resources: Resources) -> str:
    cleaned = _readable(path)
    if isinstance(resources.objects, TenantFiles):
        resources.objects.check_writable(cleaned)
    inside = cleaned.casefold().removeprefix(own_folder(resources.objects))
    results = tuple(f"{kind.folder}/" for kind in all_kinds().values())
    # With a slash: a file by the name of such a folder would stand in its way.
    if f"{inside}/".startswith((INPUTS, TRAININGS, *results)):
        raise Forbidden(f"Folder {cleaned.partition('/')[0]}/ holds what tasks used and made, and is read-only.")
    return cleaned


def _readable(path: str) -> str:
    cleaned = _cleaned(clean_path, path)
    if (reason := why_hidden(cleaned)) is not None:
        raise Forbidden(reason)
    return cleaned


def _cleaned(clean: Callable[[str], str], given: str) -> str:
    try:
        return clean(given)
    except InvalidInput as error:
        # It stands in the address, not in the payload.
        raise BadRequest(f"Parameter `{error.field}` is no storage path. {error.detail}") from None


async def _permitted(
    path: str,
    request: Request,
    resources: Resources,
    expires: int | None,
    signature: str | None,
) -> StoredObject:
    """The object, for whoever has a link to it or the API key."""
    if (expires is None) is not (signature is None):
        raise BadRequest("Parameters `expires` and `signature` go together.")
    if expires is not None and signature is not None:
        resources.links.verify(path, expires, signature)
        return await _linked(path, resources)
    caller_of(request)
    return await _existing(path, resources)


async def _existing(path: str, resources: Resources) -> StoredObject:
    return await _found(_readable(path), resources)


async def _linked(path: str, resources: Resources) -> StoredObject:
    """The object that a signed link names: a result of a task, or the LoRA of a training."""
    cleaned = _cleaned(clean_path, path)
    return await _found(cleaned if cleaned.startswith(LORAS) else _readable(path), resources)


async def _found(cleaned: str, resources: Resources) -> StoredObject:
    found = await resources.objects.stat(cleaned)
    if found is None:
        raise NotFound(f"There is no image {cleaned}.")
    return found


def _served(request: Request, resources: Resources, found: StoredObject) -> Response:
    """The object from this process: whole, in part, or not at all when the client has it."""
    headers = content_headers(found)
    if unchanged(request.headers, found):
        return Response(status_code=304, headers=headers)
    part = requested_range(request.headers, found)
    if part is None:
        content = resources.objects.stream(found.path)
        return StreamingResponse(content, 200, headers | {"Content-Length": str(found.size)}, found.content_type)
    headers |= {"Content-Length": str(part.length), "Content-Range": part.content_range}
    return StreamingResponse(
        resources.objects.stream(found.path, part.start, part.length), 206, headers, found.content_type
    )


async def _describe(item: StoredObject, links: RequestLinks) -> StoredImage:
    return StoredImage(
        path=item.path,
        url=await links.to(item.path),
        size=item.size,
        content_type=item.content_type,
        modified=item.modified,
    )
