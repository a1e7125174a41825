"""The class of all routes: whatever is POSTed can be sent again with its `Idempotency-Key`."""

import functools
import hashlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic_core import to_json

from compute.api.deps import resources_of
from compute.api.idempotency.keys import Answer, IdempotencyHeader, IdempotentRequest

__all__ = ["IdempotentRoute"]

Endpoint = Callable[..., Awaitable[Any]]


class IdempotentRoute(APIRoute):
    """A route whose POST is done once for each `Idempotency-Key`.

    An endpoint that takes the header itself, as `key: IdempotencyHeader`, settles it itself: one that fetches, receives
    or stores files, for which no transaction may be held open. Every other one is run inside a transaction that it
    shares with its key, and needs to know nothing of it.
    """

    def __init__(self, path: str, endpoint: Endpoint, **options: Any) -> None:
        if "POST" in (options.get("methods") or ()) and "key" not in inspect.signature(endpoint).parameters:
            endpoint = _once(endpoint, options.get("status_code") or 200)
        super().__init__(path, endpoint, **options)


def _once(endpoint: Endpoint, status_code: int) -> Endpoint:
    @functools.wraps(endpoint)
    async def once(*, keyed_request: Request, key: str | None, **given: Any) -> Any:
        if key is None:
            return await endpoint(**given)
        sent = (await keyed_request.body()).strip()
        # These say the same.
        body = None if sent in (b"", b"{}") else hashlib.sha256(sent).hexdigest()
        idempotent = await IdempotentRequest.of(key, keyed_request, body)
        database = resources_of(keyed_request).database

        async def act() -> Answer:
            async with idempotent.once(database) as session:
                answer = _answer(await endpoint(**given), status_code)
                await idempotent.remember(session, answer)
            return answer

        return await idempotent.settle(database, act)

    signature = inspect.signature(endpoint)
    more = [
        inspect.Parameter("keyed_request", inspect.Parameter.KEYWORD_ONLY, annotation=Request),
        inspect.Parameter("key", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=IdempotencyHeader),
    ]
    once.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *more]
    )
    return once


def _answer(result: Any, status_code: int) -> Answer:
    if isinstance(result, Response):
        return Answer(result.status_code, bytes(result.body).decode())
    if isinstance(result, BaseModel):
        return Answer(status_code, result.model_dump_json(by_alias=True))
    return Answer(status_code, to_json(result).decode())
