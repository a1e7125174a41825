"""/admin/keys: give keys out, change them, take them back."""

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from compute.api.access import keys
from compute.api.access.caller import caller_of
from compute.api.access.keys import prefix_of
from compute.api.bodies.json_body import json_object
from compute.api.deps import LinksDep, ResourcesDep, require_admin_key
from compute.api.dialect import parsed_uuid
from compute.api.http.strict import StrictRoute
from compute.api.idempotency.keys import Answer, IdempotencyHeader, IdempotentRequest
from compute.api.openapi.request_bodies import KEY_BODY, KEY_UPDATE_BODY, ROTATE_BODY
from compute.api.paging import PAGED, json_list, list_answer
from compute.api.resources import Resources
from compute.db.keys import get_row
from compute.db.tables import ApiKey
from compute.errors import BadRequest
from compute.requests.validate import validate
from compute.schemas.admin.keys import (
    ApiKeyCreate,
    ApiKeyList,
    ApiKeyPublic,
    ApiKeyRotate,
    ApiKeyUpdate,
    ApiKeyWithSecret,
    Limits,
)

__all__ = ["router"]

router = APIRouter(
    prefix="/admin/keys", tags=["admin"], dependencies=[Depends(require_admin_key)], route_class=StrictRoute
)
KeyId = Annotated[str, Path(description="The key's UUID.", examples=["0b6f0a52-64c8-4a3c-9d0e-0c7a8a0f7f10"])]
KeyQuery = Annotated[keys.KeyFilters, Query()]


@router.post("", status_code=201, response_model=ApiKeyWithSecret, openapi_extra=KEY_BODY)
async def create_key(request: Request, resources: ResourcesDep, key: IdempotencyHeader = None) -> Response:
    """Make a key. The answer has its text, which is stored nowhere and told this once."""
    body = await json_object(request)
    asked = validate(ApiKeyCreate, body)
    idempotent = await IdempotentRequest.of(key, request, body)
    act = partial(_create, resources, asked, caller_of(request).name, idempotent)
    return _unstored(await idempotent.settle(resources.database, act))


@router.get("", response_model=ApiKeyList, responses=PAGED)
async def list_keys(filters: KeyQuery, request: Request, resources: ResourcesDep, links: LinksDep) -> Response:
    """Keys, newest first, also those that were revoked. The header `Link` leads to the next page."""
    async with resources.database.transaction() as session:
        page = await keys.find_keys(session, filters)
    return list_answer(await json_list(page.rows, present), page.next, request, links, name="keys")


@router.get("/{key_id}")
async def get_key(key_id: KeyId, resources: ResourcesDep) -> ApiKeyPublic:
    """One key."""
    async with resources.database.transaction() as session:
        return present(await get_row(session, ApiKey, _id(key_id)))


@router.patch("/{key_id}", response_model=ApiKeyPublic, openapi_extra=KEY_UPDATE_BODY)
async def update_key(key_id: KeyId, request: Request, resources: ResourcesDep) -> ApiKeyPublic:
    """Change a key's name, scope, expiry or limits; every process knows it within four seconds."""
    changes = validate(ApiKeyUpdate, await json_object(request))
    async with resources.database.transaction() as session:
        return present(await keys.update(session, _id(key_id), changes))


@router.delete("/{key_id}")
async def revoke_key(key_id: KeyId, resources: ResourcesDep) -> ApiKeyPublic:
    """Take a key back, for good. No process takes it any more after four seconds; its row stays for the audit log."""
    async with resources.database.transaction() as session:
        return present(await keys.revoke(session, _id(key_id)))


@router.post("/{key_id}/rotate", response_model=ApiKeyWithSecret, openapi_extra=ROTATE_BODY)
async def rotate_key(
    key_id: KeyId, request: Request, resources: ResourcesDep, key: IdempotencyHeader = None
) -> Response:
    """Give a key another secret, which is told this once. The old one works for a while beside it."""
    body = await json_object(request) if await request.body() else {}
    asked = validate(ApiKeyRotate, body)
    idempotent = await IdempotentRequest.of(key, request, body)
    act = partial(_rotate, resources, _id(key_id), asked, idempotent)
    return _unstored(await idempotent.settle(resources.database, act))


def _unstored(answer: Response) -> Response:
    """The answer with a secret in it, which no cache may keep."""
    answer.headers["Cache-Control"] = "no-store"
    return answer


def present(row: ApiKey) -> ApiKeyPublic:
    """A key as an administrator sees it."""
    columns = ApiKeyPublic.model_fields.keys() - {"prefix", "limits"}
    limits = Limits(**{name: getattr(row, name) for name in Limits.model_fields})
    return ApiKeyPublic(prefix=prefix_of(row.id), limits=limits, **{name: getattr(row, name) for name in columns})


async def _create(resources: Resources, asked: ApiKeyCreate, by: str, idempotent: IdempotentRequest) -> Answer:
    async with idempotent.once(resources.database) as session:
        row, text = await keys.create(session, asked, by)
        idempotent.made(row.id)
        return await _told_once(idempotent, session, row, text, 201)


async def _rotate(resources: Resources, key_id: UUID, asked: ApiKeyRotate, idempotent: IdempotentRequest) -> Answer:
    async with idempotent.once(resources.database) as session:
        row, text = await keys.rotate(session, key_id, asked.grace_seconds, end_previous=asked.end_previous)
        return await _told_once(idempotent, session, row, text, 200)


async def _told_once(
    idempotent: IdempotentRequest, session: AsyncSession, row: ApiKey, text: str, status: int
) -> Answer:
    """The answer with the key's text; what is remembered of it has none."""
    shown = ApiKeyWithSecret(**present(row).model_dump())
    await idempotent.remember(session, Answer(status, shown.model_dump_json()))
    return Answer(status, shown.model_copy(update={"key": text}).model_dump_json())


def _id(key_id: str) -> UUID:
    parsed = parsed_uuid(key_id)
    if parsed is None:
        raise BadRequest("Parameter `key_id` must be a UUID.")
    return parsed
