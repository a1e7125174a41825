"""The FastAPI application. It knows nothing of Ray: any ASGI server can run it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from compute import __version__
from compute.api import errors
from compute.api.access import routes as current_key
from compute.api.access.guard import KeyGuard
from compute.api.access.streams import ONGOING_REQUESTS, StreamPlaces
from compute.api.admin import audit as admin_audit
from compute.api.admin import keys as admin_keys
from compute.api.admin import tenants as admin_tenants
from compute.api.bodies.multipart import FIELD_BYTES
from compute.api.bodies.patience import BodyPatience
from compute.api.deps import require_key
from compute.api.evaluation import routes as evaluation
from compute.api.health import routes as health
from compute.api.http.cors import cors_options
from compute.api.http.guard import RequestGuard
from compute.api.http.media_types import MediaTypes
from compute.api.http.methods import Methods
from compute.api.http.observed import Observed
from compute.api.http.request_ids import RequestIds
from compute.api.http.routes import RouteTable
from compute.api.http.well_formed import WellFormed
from compute.api.images import routes as storage
from compute.api.loras import routes as lora
from compute.api.metrics import routes as metrics
from compute.api.monitoring import routes as monitoring
from compute.api.openapi.document import ServedDocument, openapi_document
from compute.api.openapi.reference import router as reference
from compute.api.paths import API
from compute.api.providers import routes as providers
from compute.api.providers import webhooks as provider_webhooks
from compute.api.resources import open_resources
from compute.api.tasks import generation
from compute.api.tasks import routes as tasks
from compute.api.training import routes as training
from compute.api.usage import routes as usage
from compute.api.workflows import routes as workflows
from compute.capacity import Capacity
from compute.lora.library import LoraFiles
from compute.requests.serving import Serving
from compute.settings import Settings
from compute.telemetry.tracing import stop_tracing

__all__ = ["create_app"]

DESCRIPTION = """\
One API in front of a cluster that generates and edits images.

* **Accepted is kept.** A task is stored before its POST is answered and ends in exactly one of COMPLETED, FAILED and
  CANCELLED, whatever dies in between.
* **Two dialects.** The spelling of a task's id chooses the dialect of the answer: a UUID the canonical one
  (`"status": "EXECUTING"`, progress 0-100), `task_` and 32 hex digits the quick start's (`"running"`, 0-1).
* **Safe to repeat.** Send an `Idempotency-Key` with a POST, and a repeated request gets the first answer.
* **Follow or be called.** Poll, read `/tasks/{id}/events`, or give a `webhook_url`.
"""
_OF_THE_API: dict[str, Any] = {"prefix": API, "responses": errors.PROBLEMS}
_KEYED = _OF_THE_API | {"dependencies": [Depends(require_key)]}
_ROUTERS: tuple[tuple[APIRouter, dict[str, Any]], ...] = (
    (generation.router, _KEYED),
    (tasks.router, _KEYED),
    (workflows.router, _KEYED),
    (training.router, _KEYED),
    (evaluation.router, _KEYED),
    (usage.router, _KEYED),
    (monitoring.router, _KEYED),
    (current_key.router, _KEYED),
    # Their routes say which key they need.
    (storage.router, _OF_THE_API),
    (lora.router, _OF_THE_API),
    (lora.admin_router, _OF_THE_API),
    (admin_keys.router, _OF_THE_API),
    (admin_audit.router, _OF_THE_API),
    (admin_tenants.router, _OF_THE_API),
    (providers.router, _OF_THE_API),
    (providers.calls_router, _OF_THE_API),
    (provider_webhooks.router, _OF_THE_API),
    (metrics.router, {}),
    (health.router, {}),
    (reference, {}),
)
"""What is served, each with its options. `/tasks/generation` comes before `/tasks/{task_id}`."""


def create_app(settings: Settings, serving: Serving, *, max_ongoing_requests: int = ONGOING_REQUESTS) -> FastAPI:
    """The API for what `serving` says is served; connections are opened when the server starts. The server hands it
    `max_ongoing_requests` at a time."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with open_resources(settings, serving) as resources:
                app.state.resources = resources
                app.state.loras = LoraFiles(resources.objects, settings)
                yield
        finally:
            await asyncio.to_thread(stop_tracing)

    app = FastAPI(
        routes=_routes(),
        title="Compute",
        version=__version__,
        summary="A self-hosted compute plane for generative media.",
        description=DESCRIPTION,
        lifespan=lifespan,
        # Those that come with FastAPI load their scripts from elsewhere, and know one server.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    errors.install(app)
    app.add_route("/openapi.json", ServedDocument(settings).answer, include_in_schema=False)
    app.openapi = lambda: openapi_document(app, settings)  # type: ignore[method-assign]
    _add_middleware(app, settings, StreamPlaces(max_ongoing_requests))
    return app


@cache
def _routes() -> list[BaseRoute]:
    """The routes of every application in this process. FastAPI prepares them once, which takes longer than all else."""
    # Side by side: each router inside another one would be searched once more by every request.
    router = APIRouter()
    for one, options in _ROUTERS:
        router.include_router(one, **options)
    return router.routes


def _add_middleware(app: FastAPI, settings: Settings, streams: StreamPlaces) -> None:
    """The last one is asked first: what is it called, is it a request, has its path that method, the key, the size, the
    type."""
    routes = RouteTable(app.routes)
    uploads = dict.fromkeys(lora.UPLOAD_PATHS, settings.lora_max_bytes + FIELD_BYTES)
    memory = Capacity(
        settings.body_memory_bytes, busy="Too many large requests are being read at the moment; try again later."
    )
    app.add_middleware(MediaTypes, table=routes, routes=app.routes)
    app.add_middleware(RequestGuard, max_bytes=settings.body_max_bytes, memory=memory, exceptions=uploads)
    app.add_middleware(KeyGuard, prefix=API, routes=routes, streams=streams)
    app.add_middleware(Methods, routes=routes, settings=settings)
    app.add_middleware(WellFormed)
    # Around all that answers without having read the body.
    app.add_middleware(BodyPatience)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, **cors_options(settings))
    app.add_middleware(Observed, routes=routes)
    app.add_middleware(RequestIds)
