"""The whole document, made once."""

import asyncio
import copy
import json
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic.json_schema import models_json_schema

from compute.api.http.host import public_base
from compute.api.openapi.events import describe_event_stream, describe_webhooks
from compute.api.openapi.operations import TAGS, describe_operations
from compute.api.openapi.request_bodies import document
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
        self._made: bytes | None = None

    async def answer(self, request: Request) -> Response:
        """The document for this client, whose server is the one that it has called."""
        async with self._making:
            if self._made is None:
                self._made = await asyncio.to_thread(_all_but_servers, request.app)
        servers = json.dumps([{"url": public_base(request.scope, self._settings)}])
        return Response(self._made + b', "servers": ' + servers.encode() + b"}", media_type="application/json")


def _all_but_servers(app: FastAPI) -> bytes:
    """The JSON of the document but for its servers, and without the last brace."""
    made = {name: value for name, value in app.openapi().items() if name != "servers"}
    return json.dumps(made, ensure_ascii=False).encode().removesuffix(b"}")
