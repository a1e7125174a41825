"""Whatever an id or a path is, it stays in its place: no other route is reached, and no parameter added."""

import inspect
from collections.abc import Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

from compute.client import ArgumentError, ClientError, Compute, RetryPolicy
from compute.client.sync.pages import Pages
from tests.servers import by_path

GROUPS = (
    "tasks", "workflows", "trainings", "loras", "files", "evaluations", "usage", "providers", "monitoring", "admin",
    "admin.keys",
)  # fmt: skip
IDS = {"task", "workflow", "training", "key_id", "call_id", "tenant", "name", "step", "from_step"}
PATHS = {"path", "source", "partial_path"}
GOOD, OTHER = "7", "8"
ODD = [
    "../admin/keys",
    "../../tasks/7",
    "a/b",
    "/a",
    "a?b=c",
    "a#b",
    "%2e%2e",
    "a%2Fb",
    "a;b",
    "ä",
    "a b",
    "",
    ".",
    "..",
]


def named(client: Compute) -> Iterator[tuple[str, list[str]]]:
    """Every method that must be given an id or a path, and what it must be given, in order."""
    for group in GROUPS:
        for name, method in inspect.getmembers(attrgetter(group)(client), inspect.ismethod):
            needed = [
                one
                for one, parameter in inspect.signature(method).parameters.items()
                if parameter.default is parameter.empty
                and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            ]
            if not name.startswith("_") and not (IDS | PATHS).isdisjoint(needed):
                yield f"{group}.{name}", needed
    yield "files.upload", ["image", "path"]


def call(client: Compute, name: str, given: Mapping[str, Any]) -> None:
    """Call a method, and walk what it yields."""
    if name == "files.upload":
        client.files.upload(**given)
        return
    found = attrgetter(name)(client)(*given.values())
    if isinstance(found, Pages | Iterator):
        next(iter(found), None)


def test_every_method_stays_on_its_route(tmp_path: Path) -> None:
    rest = {"to": tmp_path / "to", "action": "collect", "image": b"an image"}
    walked: set[str] = set()
    with by_path({}) as (url, asked), Compute(url, "secret", retry=RetryPolicy(tries=1)) as client:

        def reached(name: str, needed: list[str], which: str, value: str) -> str | None:
            """The address that a call asks for; None if it is refused."""
            asked.clear()
            given = {one: OTHER if one in IDS | PATHS else rest[one] for one in needed} | {which: value}
            try:
                call(client, name, given)
            except ArgumentError:
                assert not asked
                return None
            except ClientError:
                pass
            return asked[0][0]

        for name, needed in named(client):
            walked.add(name)
            for which in (one for one in needed if one in IDS | PATHS):
                good = reached(name, needed, which, GOOD)
                assert good is not None
                for odd in ODD:
                    found = reached(name, needed, which, odd)
                    if which == "source" and odd.startswith("/"):
                        # A link, which leads the key nowhere.
                        assert asked == [(odd, None)]
                        continue
                    if found is not None:
                        check(good, found, odd.split("/") if which in PATHS else [odd])
                    else:
                        assert odd in ("", ".", "..") or "/" in odd, (name, odd)
    assert {"tasks.delete", "tasks.update", "files.delete", "admin.keys.revoke", "monitoring.task"} <= walked


def check(good: str, found: str, parts: list[str]) -> None:
    """That an address is the usual one with another value in it."""
    (path, _, query), (usual, _, usual_query) = found.partition("?"), good.partition("?")
    assert path == usual.replace(GOOD, "/".join(quote(part, safe="") for part in parts)), (good, found)
    if GOOD in usual:
        assert {"", ".", ".."}.isdisjoint(path.split("/")[1:]), found
    names, usual_names = ([name for name, _ in parse_qsl(one, keep_blank_values=True)] for one in (query, usual_query))
    assert names == usual_names, (good, found)
