"""Every route of the API, walked: its path with something in place of each parameter."""

import re
from dataclasses import dataclass

from compute.api.app import create_app
from compute.requests.serving import Serving
from compute.settings import Settings
from tests.integration.api.conftest import KEY

UNKNOWN = {
    "key_id": "0b6f0a52-64c8-4a3c-9d0e-0c7a8a0f7f10",
    "tenant": "one",
    "call_id": "0b6f0a52-64c8-4a3c-9d0e-0c7a8a0f7f10",
    "task_id": "0b6f0a52-64c8-4a3c-9d0e-0c7a8a0f7f10",
    "workflow_id": "0b6f0a52-64c8-4a3c-9d0e-0c7a8a0f7f10",
    "step_id": "draw",
    "path": "looks/dress.png",
}


@dataclass(frozen=True)
class Route:
    """An operation of the document; `path` leads to it."""

    method: str
    template: str
    path: str
    reads: tuple[str, ...]


def all_routes() -> list[Route]:
    """Every operation, in the document's order."""
    document = create_app(Settings(api_key=KEY), Serving({})).openapi()
    return [
        Route(method.upper(), template, filled(template), tuple(operation.get("requestBody", {}).get("content", {})))
        for template, item in document["paths"].items()
        for method, operation in item.items()
    ]


def filled(template: str) -> str:
    """The template's path with ids that nothing has."""
    return re.sub(r"\{(\w+)\}", lambda match: UNKNOWN[match[1]], template)


def all_paths() -> dict[str, set[str]]:
    """The documented methods of every path."""
    found: dict[str, set[str]] = {}
    for route in all_routes():
        found.setdefault(route.path, set()).add(route.method)
    return found
