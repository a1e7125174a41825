"""/metrics, for Prometheus: figures of the whole cluster, whichever ingress replica is asked."""

from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from compute.api.deps import ResourcesDep, require_key
from compute.api.errors import PROBLEMS
from compute.api.http.strict import StrictRoute
from compute.api.paths import METRICS

router = APIRouter(route_class=StrictRoute, tags=["Monitoring"])

_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The text format of Prometheus, or OpenMetrics if the request accepts it.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    },
    400: PROBLEMS[400],
    401: PROBLEMS[401],
    403: PROBLEMS[401] | {"description": "The key is bound to a tenant."},
}


@router.get(
    METRICS,
    summary="Metrics",
    response_class=Response,
    responses=_ANSWER,
    dependencies=[Depends(require_key)],
)
async def scrape_metrics(request: Request, resources: ResourcesDep) -> Response:
    """Queues, workers, tasks, webhooks, paid calls, requests and the database, as Prometheus scrapes them. It is
    answered while the database is away, too: `compute_database_up` is 0 then."""
    content, media_type = (await resources.metrics.collect()).text(request.headers.get("accept", ""))
    return Response(content, media_type=None, headers={"Content-Type": media_type, "Cache-Control": "no-store"})
