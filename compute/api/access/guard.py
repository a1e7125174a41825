"""Refuses requests without a key, or with one that may not do what they ask, before anything of them is read."""

import asyncio
import contextlib
from datetime import UTC, datetime
from urllib.parse import unquote

from fastapi.security.utils import get_authorization_scheme_param
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.status import HTTP_429_TOO_MANY_REQUESTS, HTTP_500_INTERNAL_SERVER_ERROR
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compute.api.access.audit import entry_of, made_in, tell
from compute.api.access.builtin import builtin_caller
from compute.api.access.caller import Caller, caller_in, set_caller
from compute.api.access.caller import Scope as AccessScope
from compute.api.access.headers import limit_headers
from compute.api.access.scopes import FREE_PATHS, READING, scope_of
from compute.api.access.streams import STREAMS, StreamPlaces
from compute.api.errors import answer_to
from compute.api.http.routes import RouteTable
from compute.api.paths import ADMIN_PATHS, API, METRICS, WEBHOOKS
from compute.api.resources import Resources
from compute.errors import ComputeError, Forbidden, Unauthorized
from compute.settings import Settings
from compute.tasks.ids import new_task_id

__all__ = ["KeyGuard"]

_LOOK_SECONDS = 1.0


class KeyGuard:
    """ASGI middleware: below `prefix`, and of /metrics, nothing of a request is read, and no route is looked for,
    before its caller is known, who is noted in the scope. Only what is signed passes without a key, and its route
    checks that: a GET or HEAD of a stored file that carries a signature, and a provider's webhook.
    """

    def __init__(self, app: ASGIApp, prefix: str, routes: RouteTable, streams: StreamPlaces) -> None:
        self._app = app
        self._streams = streams
        self._prefix = prefix
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        recorded = _Recorded(scope, send, self._routes)
        try:
            await self._pass_on(scope, receive, recorded.send)
        except ClientDisconnect:
            raise
        except Exception:
            recorded.fail()
            raise
        finally:
            recorded.note()

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.ExitStack() as held:
            try:
                await self._identify(scope)
                # Before it is judged: what a key may not do counts as well, and its answer says how the key stands.
                send = await _counted(scope, send)
                self._judge(scope)
                self._hold_place(scope, held)
            except ComputeError as error:
                await answer_to(error)(scope, receive, send)
                return
            with contextlib.suppress(_KeyLost):
                await self._app(scope, receive, _watched(scope, send))

    async def _identify(self, scope: Scope) -> None:
        """Note the caller in the scope, if the request needs one.

        Raises:
            Unauthorized: the key is missing or unknown.
            Unavailable: it cannot be checked.
        """
        whole = _path(scope)
        if not whole.startswith(f"{self._prefix}/") and whole != METRICS:
            return
        path = whole.removeprefix(self._prefix)
        if _is_signed(scope, path) or (scope["method"] == "POST" and path.startswith(f"{WEBHOOKS}/")):
            return
        set_caller(scope, await _caller(scope, scope["app"].state.resources))

    def _judge(self, scope: Scope) -> None:
        """Check that the caller may do this.

        Raises:
            Forbidden: the scope of the key is too small, or the route is closed to the keys of tenants.
        """
        caller = caller_in(scope)
        if caller is None:
            return
        whole = _path(scope)
        path, template = whole.removeprefix(self._prefix), self._routes.template(whole, scope["method"])
        needed = scope_of(scope["method"], path, template and template.removeprefix(self._prefix))
        if needed not in caller.scopes:
            raise Forbidden(_lacks(needed, caller, scope["app"].state.resources.settings))
        if caller.tenant is not None and f"{path}/".startswith(FREE_PATHS):
            raise Forbidden("This needs a key that is bound to no tenant.")

    def _hold_place(self, scope: Scope, held: contextlib.ExitStack) -> None:
        """Take a place, which `held` gives back, if the request opens an event stream.

        Raises:
            LimitReached, Overloaded: there is none for this caller, or none at all.
        """
        caller, whole = caller_in(scope), _path(scope)
        if caller is None or scope["method"] != "GET" or not whole.endswith("/events"):
            return
        if (self._routes.template(whole, "GET") or "").removeprefix(self._prefix) in STREAMS:
            held.enter_context(self._streams.held(caller))


class _KeyLost(Exception):
    """The key of an event stream is of no use any more."""


def _watched(scope: Scope, send: Send) -> Send:
    """Wraps `send`: closes an event stream once its key was revoked, has expired, or has another secret."""
    caller = caller_in(scope)
    if caller is None or caller.key_id is None:
        return send
    _, key = _credentials(scope)
    resources, clock = scope["app"].state.resources, asyncio.get_running_loop().time
    streams, looked_at = False, clock()

    async def watch(message: Message) -> None:
        nonlocal streams, looked_at
        if message["type"] == "http.response.start":
            streams = Headers(scope=message).get("content-type", "").startswith("text/event-stream")
        elif streams and message.get("more_body") and clock() > looked_at + _LOOK_SECONDS:
            looked_at = clock()
            if not await resources.keys.is_valid(key):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                raise _KeyLost
        await send(message)

    return watch


class _Recorded:
    """What the audit log has of a request: one that changes something, or that only an administrator may send. What is
    refused because there were too many is not in it."""

    def __init__(self, scope: Scope, send: Send, routes: RouteTable) -> None:
        self._scope = scope
        self._routes = routes
        self._send = send
        self._status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        await self._send(message)

    def fail(self) -> None:
        """Nobody within has answered, because of an error that is none of the caller's."""
        self._status = self._status or HTTP_500_INTERNAL_SERVER_ERROR

    def note(self) -> None:
        caller = caller_in(self._scope)
        path = _path(self._scope).removeprefix(API)
        reads = self._scope["method"] in READING and not f"{path}/".startswith(ADMIN_PATHS)
        if caller is None or reads or self._status == HTTP_429_TOO_MANY_REQUESTS:
            return
        # What was refused before it reached its route is told like what came there.
        match = None if "route" in self._scope else self._routes.match(_path(self._scope), self._scope["method"])
        resources: Resources = self._scope["app"].state.resources
        entry = entry_of(self._scope, caller, self._status, new_task_id(), datetime.now(UTC), match)
        if entry.objects and not made_in(self._scope):
            tell(entry)
        resources.audit.note(entry)


async def _counted(scope: Scope, send: Send) -> Send:
    """Count the request, if its caller has a limit; what sends its answer tells how the caller stands.

    Raises:
        LimitReached: there were too many in this minute.
        Unavailable: they cannot be counted, because the database is away.
    """
    caller = caller_in(scope)
    if caller is None or not caller.rates:
        return send
    resources: Resources = scope["app"].state.resources
    state = await resources.rates.take(caller.rates)
    told = limit_headers(state.limit, state.remaining, state.reset_seconds)

    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in told.items():
                headers.setdefault(name, value)
        await send(message)

    return tell


async def _caller(scope: Scope, resources: Resources) -> Caller:
    """The caller whose key the request carries.

    Raises:
        Unauthorized: no key, or one that was never given out, has expired or was revoked.
        Unavailable: the database is away, and the key is not known well enough.
    """
    scheme, given = _credentials(scope)
    caller = None
    if scheme.lower() == "bearer":
        caller = builtin_caller(given, resources.settings)
        # Metrics must tell that the database is away.
        caller = caller or await resources.keys.caller(given, remembered=_path(scope) == METRICS)
    if caller is None:
        raise Unauthorized("Send a valid API key as `Authorization: Bearer <key>`.")
    return caller


def _credentials(scope: Scope) -> tuple[str, str]:
    """The scheme and the key."""
    return get_authorization_scheme_param(Headers(scope=scope).get("authorization"))


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _is_signed(scope: Scope, path: str) -> bool:
    if scope["method"] not in ("GET", "HEAD") or not path.startswith("/storage/images/"):
        return False
    return "signature=" in unquote(scope.get("query_string", b"").decode("latin-1"))


def _lacks(needed: AccessScope, caller: Caller, settings: Settings) -> str:
    if needed is not AccessScope.ADMIN:
        return f"This needs a key with the scope `{needed}`, which the key `{caller.name}` lacks."
    said = "This needs a key with the scope `admin`, such as ADMIN_API_KEY."
    if settings.admin_api_key is None:
        said += " None is configured here: set it for the server, or start that with `compute up`, which makes one."
    return said
