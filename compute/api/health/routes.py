"""/health: is the process alive, and would a task run at once."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from compute import __version__
from compute.api.deps import ResourcesDep
from compute.api.http.strict import StrictRoute
from compute.schemas.rules.parameters import Flag

router = APIRouter(route_class=StrictRoute, tags=["Health"])


class Health(BaseModel):
    """`checks` is filled when readiness was asked for: each part with `ok` or what is wrong with it."""

    status: Literal["ok", "ready", "not ready"]
    version: str = __version__
    checks: dict[str, str] | None = None


@router.get(
    "/health", responses={503: {"model": Health, "description": "Not ready; `checks` says why."}}, summary="Health"
)
async def health(
    resources: ResourcesDep,
    response: Response,
    ready: Annotated[Flag, Query(description="1 asks whether a task would run at once.")] = False,
) -> Health:
    """Liveness, and with `?ready=1` readiness of the database, the object store and every pool of workers."""
    if not ready and not resources.loops.failing():
        return Health(status="ok")
    checks = await resources.readiness.check()
    if all(verdict == "ok" for verdict in checks.values()):
        return Health(status="ready", checks=checks)
    response.status_code = 503
    return Health(status="not ready", checks=checks)
