"""Event streams have places, of which a key and a tenant have a share."""

from contextlib import ExitStack
from uuid import uuid4

import pytest

from compute.api.access.caller import PLAIN, Caller, Scope, scopes_up_to
from compute.api.access.streams import STREAMS, StreamPlaces
from compute.api.app import create_app
from compute.api.paths import API
from compute.errors import LimitReached, Overloaded
from compute.requests.serving import Serving
from compute.settings import Settings


def caller(tenant: str | None = None) -> Caller:
    return Caller("a team", scopes_up_to(Scope.READ), tenant, uuid4())


def test_every_route_that_streams_events_needs_a_place() -> None:
    document = create_app(Settings(), Serving({})).openapi()
    found = {
        path.removeprefix(API)
        for path, item in document["paths"].items()
        for operation in item.values()
        for answer in operation["responses"].values()
        if "text/event-stream" in answer.get("content", {})
    }
    assert found == STREAMS
    assert all(path.endswith("/events") for path in found), "the guard looks for that first"


def test_a_key_has_a_quarter_and_the_keys_of_a_tenant_together_have_one() -> None:
    places = StreamPlaces(8)
    free, one, other, theirs = caller(), caller("mine"), caller("mine"), caller("theirs")
    with ExitStack() as held:
        for mine in (one, other, free, free, theirs):
            held.enter_context(places.held(mine))
        for full in (one, other, free):
            with pytest.raises(LimitReached), places.held(full):
                pass
        with places.held(theirs):
            pass
    with places.held(one), places.held(one):
        pass


def test_other_requests_find_room_however_many_streams_there_are() -> None:
    places = StreamPlaces(8)
    with ExitStack() as held:
        for _ in range(6):
            held.enter_context(places.held(PLAIN))
        with pytest.raises(Overloaded), places.held(caller()):
            pass
    with places.held(caller()):
        pass


def test_a_small_process_has_a_place_too() -> None:
    with StreamPlaces(1).held(caller()):
        pass
