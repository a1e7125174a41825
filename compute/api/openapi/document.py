"""The whole document, made once."""

import asyncio
import copy
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic.json_schema import models_json_schema

from compute.api.documentation import document
from compute.api.http.host import public_base
from compute.api.openapi.events import describe_event_stream, describe_webhooks
from compute.api.openapi.operations import TAGS, describe_operations
from compute.api.openapi.schemas import tidy_schemas
from compute.api.openapi.unions import name_unions
from compute.api.openapi.walk import REF
from compute.schemas.errors import HTTPValidationError
from compute.settings import Settings

__all__ = ["ServedDocument", "openapi_document"]


def openapi_document(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """The document. Its server is the public base, else the address at which the stack listens."""
    if app.openapi_schema is None:
        # What it shares with the modules that made it stays as it is there.
        made = copy.deepcopy(document(app))
        made["servers"] = [{"url": (settings.public_url or settings.local_url).rstrip("/")}]
        made["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
        # The framework puts its own in place of ours.
        _, errors = models_json_schema([(HTTPValidationError, "serialization")], ref_template=f"{REF}{{model}}")
        made["components"]["schemas"] |= errors["$defs"]
        describe_webhooks(made)
        name_unions(made)
        describe_event_stream(made)
        describe_operations(made)
        tidy_schemas(made)
        app.openapi_schema = made
    return app.openapi_schema


class ServedDocument:
    """The document as a route: made when it is first asked for, once, however many ask together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._making = asyncio.Lock()

    async def answer(self, request: Request) -> JSONResponse:
        """The document for this client, whose server is the one that it has called."""
        async with self._making:
            made: dict[str, Any] = await asyncio.to_thread(request.app.openapi)
        return JSONResponse(made | {"servers": [{"url": public_base(request.scope, self._settings)}]})
