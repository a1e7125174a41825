"""Refuses what no route should have to think about, before anything is read: bodies that are too large or too many at
once, requests without a key."""

from collections.abc import Mapping
from urllib.parse import unquote

from fastapi.security import HTTPAuthorizationCredentials
from fastapi.security.utils import get_authorization_scheme_param
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compute.api.deps import authenticate, authenticate_admin
from compute.api.errors import answer_to
from compute.api.http.well_formed import announced
from compute.api.paths import ADMIN_PATHS, WEBHOOKS
from compute.capacity import Capacity
from compute.errors import ComputeError, Overloaded, TooLarge

__all__ = ["KeyGuard", "RequestGuard"]


class KeyGuard:
    """ASGI middleware: below `prefix` nothing of a request is read, and no route is looked for, before its key is
    known. Only what is signed passes without one, and its route checks that: a GET or HEAD of a stored file that
    carries a signature, and a provider's webhook.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = f"{prefix}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
            except ComputeError as error:
                await answer_to(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Raises:
        Unauthorized, Forbidden: the key is missing, unknown, or not the one that this needs.
        """
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not path.startswith(self._prefix) or self._is_signed(scope, path) or self._is_webhook(scope, path):
            return
        scheme, given = get_authorization_scheme_param(Headers(scope=scope).get("authorization"))
        key = HTTPAuthorizationCredentials(scheme=scheme, credentials=given) if scheme.lower() == "bearer" else None
        resources = scope["app"].state.resources
        if f"{path.removeprefix(self._prefix.rstrip('/'))}/".startswith(ADMIN_PATHS):
            authenticate_admin(key, resources)
        else:
            authenticate(key, resources)

    def _is_webhook(self, scope: Scope, path: str) -> bool:
        return scope["method"] == "POST" and path.startswith(f"{self._prefix.rstrip('/')}{WEBHOOKS}/")

    def _is_signed(self, scope: Scope, path: str) -> bool:
        if scope["method"] not in ("GET", "HEAD") or not path.startswith(f"{self._prefix}storage/images/"):
            return False
        return "signature=" in unquote(scope.get("query_string", b"").decode("latin-1"))


class RequestGuard:
    """ASGI middleware. `max_bytes` bounds a request's body: by what it announces before it is read, and by what
    arrives. `exceptions` are other bounds for single paths, whose routes stream to disk what they read; the bodies of
    all others together take at most `memory`, because they are read into it.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int, memory: Capacity, exceptions: Mapping[str, int] | None = None
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._memory = memory
        self._exceptions = exceptions or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        streamed = scope["path"] in self._exceptions
        body = _Body(receive, self._exceptions.get(scope["path"], self._max_bytes), None if streamed else self._memory)
        try:
            body.check(announced(Headers(scope=scope)) or 0)
        except ComputeError as error:
            await answer_to(error)(scope, receive, send)
            return
        try:
            await self._app(scope, body.receive, send)
        finally:
            body.release()


class _Body:
    """Counts a body as it arrives, and holds the memory that it takes."""

    def __init__(self, receive: Receive, most: int, memory: Capacity | None) -> None:
        self._receive = receive
        self._most = most
        self._memory = memory
        self._seen = 0
        self._held = 0

    def check(self, size: int) -> None:
        """Raises:
        TooLarge, Overloaded: a body of that size would be refused while it is read.
        """
        if size > self._most:
            raise TooLarge(self._too_large())
        if self._memory is not None:
            self._memory.check(size)

    async def receive(self) -> Message:
        message = await self._receive()
        size = len(message.get("body", b""))
        self._seen += size
        if self._seen > self._most:
            raise HTTPException(413, self._too_large())
        if self._memory is not None and size:
            try:
                self._memory.take_now(size)
            except Overloaded as error:
                # As the framework's own error, for it takes any other one from here for a damaged form.
                raise HTTPException(503, error.detail, {"Retry-After": "5"}) from error
            self._held += size
        return message

    def _too_large(self) -> str:
        return f"The body has more than {self._most} bytes."

    def release(self) -> None:
        if self._memory is not None and self._held:
            self._memory.give_back(self._held)
