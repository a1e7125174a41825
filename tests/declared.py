"""Check of every answer that a test gets against the OpenAPI document, whatever the test is about."""

import re
from functools import cache
from typing import Any

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compute.api.app import create_app
from compute.requests.serving import Serving
from compute.settings import Settings

__all__ = ["DeclaredStatuses", "Recorder", "check_response", "check_response_async"]


class DeclaredStatuses:
    """The statuses of every operation of a document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._items = [(_pattern(template), template, item) for template, item in document["paths"].items()]
        # A path without parameters is no instance of one that has some.
        self._items.sort(key=lambda entry: entry[1].count("{"))

    def fault(self, method: str, path: str, status: int) -> str | None:
        """What is not declared; None if it is, or if there is no such operation."""
        for pattern, template, item in self._items:
            if not pattern.fullmatch(path):
                continue
            operation = item.get(method.lower()) or (item.get("get") if method == "HEAD" else None)
            if operation is not None and str(status) not in operation["responses"]:
                return f"{method} {template} answered {status}, which the document does not declare"
            return None
        return None


class Recorder:
    """ASGI middleware around an application under test; `faults` is what it answered without having declared it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._declared = _of_this_version()
        self.faults: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                fault = self._declared.fault(scope["method"], scope["path"], message["status"])
                self.faults |= {fault} if fault else set()
            await send(message)

        await self._app(scope, receive, recorded if scope["type"] == "http" else send)


def check_response(response: httpx.Response) -> None:
    """An event hook of a client: fails the test that saw what is not declared."""
    fault = _of_this_version().fault(response.request.method, response.request.url.path, response.status_code)
    assert fault is None, fault


async def check_response_async(response: httpx.Response) -> None:
    """The same of an asynchronous client."""
    check_response(response)


@cache
def _of_this_version() -> DeclaredStatuses:
    return DeclaredStatuses(create_app(Settings(), Serving({})).openapi())


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    names = parts[1::2]
    texts = [re.escape(text) for text in parts[::2]]
    values = [".+" if name == "path" else "[^/]+" for name in names]
    return re.compile("".join(text + value for text, value in zip(texts, [*values, ""], strict=True)), re.DOTALL)
