"""Checks that a request is well formed: its address, its host, the length and the coding of its body."""

import re

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from compute.api.http.address import address_fault
from compute.api.http.host import host_fault
from compute.api.http.problem import problem

__all__ = ["WellFormed", "announced", "has_body"]

# A number of bytes that any integer can hold; servers bound it, too, each in its own way.
_LENGTH = re.compile(r"[0-9]{1,18}")


class WellFormed:
    """ASGI middleware: refuses addresses, hosts and lengths that are malformed, and bodies in a coding."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)


def announced(headers: Headers) -> int | None:
    """Bytes of a request's body as its head has them: 0 where there is none, None where they come in chunks."""
    if "transfer-encoding" in headers:
        return None
    length = headers.get("content-length", "0")
    return int(length) if _LENGTH.fullmatch(length) else None


def has_body(headers: Headers) -> bool:
    """Whether a request brings content."""
    return announced(headers) != 0


def _refusal(scope: Scope) -> Response | None:
    if (fault := address_fault(scope) or host_fault(scope)) is not None:
        return problem(400, "BAD_REQUEST", fault)
    headers = Headers(scope=scope)
    length = headers.get("content-length")
    if length is not None and not _LENGTH.fullmatch(length):
        return problem(400, "BAD_REQUEST", "Content-Length: send the number of bytes.")
    return _coding_refusal(headers) if has_body(headers) else None


def _coding_refusal(headers: Headers) -> Response | None:
    """Refuses content codings: what unpacks a body would have to bound it twice."""
    codings = [coding.strip().lower() for given in headers.getlist("content-encoding") for coding in given.split(",")]
    unknown = [coding[:40] for coding in codings if coding not in ("", "identity")]
    if not unknown:
        return None
    detail = f"Content-Encoding: {', '.join(unknown[:4])} is not supported; send the body as it is."
    return problem(415, "UNSUPPORTED_MEDIA_TYPE", detail, {"Accept-Encoding": "identity"})
