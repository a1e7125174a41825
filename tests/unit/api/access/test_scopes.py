"""Every route has a scope that somebody chose."""

import pytest
from fastapi.routing import iter_route_contexts
from starlette.requests import Request

from compute.api.access.caller import ADMINISTRATOR, PLAIN, Caller, Scope, caller_of, scopes_up_to, set_caller
from compute.api.access.scopes import CHANGES, scope_of
from compute.api.app import create_app
from compute.api.paths import ADMIN_PATHS, API, WEBHOOKS
from compute.errors import Unauthorized
from compute.requests.serving import Serving
from compute.settings import Settings

READING = {"GET", "HEAD"}


def routes() -> set[tuple[str, str]]:
    """The method and the path of every route below the prefix, as the document writes it."""
    app = create_app(Settings(), Serving({}))
    return {
        (method, (context.path or "").removeprefix(API).replace(":path}", "}"))
        for context in iter_route_contexts(app.routes)
        for method in context.methods or ()
        if (context.path or "").startswith(f"{API}/")
    }


def test_every_change_is_listed_or_an_administrators() -> None:
    found = routes()
    assert len(found) > 40
    changes = {
        f"{method} {path}"
        for method, path in found
        if method not in READING and not f"{path}/".startswith((*ADMIN_PATHS, f"{WEBHOOKS}/"))
    }
    assert changes == set(CHANGES), "a route without a scope, or a scope without a route: see api/access/scopes.py"


def test_what_is_not_listed_is_an_administrators() -> None:
    assert scope_of("POST", "/things", "/things") is Scope.ADMIN
    assert scope_of("GET", "/admin/anything", None) is Scope.ADMIN
    assert scope_of("GET", "/things", "/things") is Scope.READ
    assert scope_of("POST", "/storage/images/a/b.png", "/storage/images/{path:path}") is Scope.SUBMIT


def test_each_scope_includes_those_before_it() -> None:
    assert [len(scopes_up_to(scope)) for scope in Scope] == [1, 2, 3, 4]
    assert scopes_up_to(Scope.ADMIN) == ADMINISTRATOR.scopes == set(Scope)
    assert PLAIN.scopes == {Scope.READ, Scope.SUBMIT, Scope.OPERATE}


def test_the_caller_is_known_behind_the_guard_alone() -> None:
    scope = {"type": "http", "headers": []}
    with pytest.raises(Unauthorized):
        caller_of(Request(scope))
    caller = Caller("a team", scopes_up_to(Scope.READ), tenant="one")
    set_caller(scope, caller)
    assert caller_of(Request(scope)) == caller
