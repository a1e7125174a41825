"""Refuses what a route does not read: unknown and repeated parameters, and bodies where none is read.

`StrictRoute` is the class of every route, so that no route can forget it. What a route reads is what it declares: its
query parameters, and a body if it has one or documents one.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel

from compute.api.http.well_formed import announced, has_body
from compute.api.idempotency.route import IdempotentRoute
from compute.errors import BadRequest, InvalidFields

__all__ = ["StrictRoute"]

_LOOKED_AT = 10_000
"""Bytes. A shorter body that is not wanted is looked at, to name what is in it."""
_MOST_NAMED = 10


class StrictRoute(IdempotentRoute):
    """A route that refuses what it does not read. The check comes after those of the router, such as that of the key,
    and before anything else."""

    def __init__(self, path: str, endpoint: Callable[..., Any], *, dependencies: Any = None, **options: Any) -> None:
        check = _Check()
        super().__init__(path, endpoint, dependencies=[*(dependencies or ()), Depends(check)], **options)
        check.parameters = tuple(dict.fromkeys(_parameters(self.dependant)))
        check.headers = tuple(dict.fromkeys(_headers(self.dependant)))
        check.reads_body = self.body_field is not None or "requestBody" in (self.openapi_extra or {})


class _Check:
    """The check of one route. `headers` are those that may be there once."""

    parameters: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    reads_body = False

    async def __call__(self, request: Request) -> None:
        """Raises:
        BadRequest: the query has something that the route does not read, or a header is there twice.
        InvalidFields: there is a body, and the route reads none.
        """
        if query := request.scope["query_string"]:
            self._check_names(_names(query))
        for header in self.headers:
            if len(request.headers.getlist(header)) > 1:
                raise BadRequest(f"Header `{header}` may be there once only.")
        if not self.reads_body and has_body(request.headers):
            await self._refuse_body(request)

    def _check_names(self, names: list[str]) -> None:
        known = ", ".join(f"`{name}`" for name in self.parameters)
        for name, count in Counter(names).items():
            if name not in self.parameters:
                takes = f"known here: {known}" if known else "this route takes none"
                raise BadRequest(f"Parameter `{_short(name)}` is unknown; {takes}.")
            if count > 1:
                raise BadRequest(f"Parameter `{name}` may be given once only.")

    async def _refuse_body(self, request: Request) -> None:
        """Refuses a body, but for an empty object. One that announces to be long is not read for that."""
        size = announced(request.headers)
        # In chunks it may be of any length.
        body = (await request.body()).strip() if size is not None and size < _LOOKED_AT else None
        if body not in (b"", b"{}"):
            raise InvalidFields([self._fault(name) for name in _names_in(body)])

    def _fault(self, name: str | None) -> dict[str, Any]:
        said = "This route reads no body; leave it out."
        if name in self.parameters:
            said = f"This route reads no body; send `{name}` as a parameter in the address."
        return {"loc": ("body",) if name is None else ("body", name), "msg": said, "type": "unexpected_body"}


def _parameters(dependant: Dependant) -> Iterable[str]:
    """The names of all query parameters, those of models one by one."""
    for field in dependant.query_params:
        kind = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from (info.alias or name for name, info in kind.model_fields.items())
        else:
            yield field.alias
    for inner in dependant.dependencies:
        yield from _parameters(inner)


def _headers(dependant: Dependant) -> Iterable[str]:
    yield from (field.alias for field in dependant.header_params)
    for inner in dependant.dependencies:
        yield from _headers(inner)


def _names(query: bytes) -> list[str]:
    """The names in a query, which is well formed.

    Raises:
        BadRequest: it has too many.
    """
    try:
        return [name for name, _ in parse_qsl(query.decode(), keep_blank_values=True, max_num_fields=100)]
    except ValueError:
        raise BadRequest("The query has too many parameters.") from None


def _names_in(body: bytes | None) -> list[str | None]:
    """The keys of a small JSON object; without any, None for the body as a whole."""
    try:
        found = json.loads(body) if body is not None and len(body) < _LOOKED_AT else None
    except (ValueError, RecursionError):
        found = None
    return [*found][:_MOST_NAMED] if isinstance(found, dict) and found else [None]


def _short(name: str) -> str:
    return name if len(name) <= 64 else f"{name[:64]}…"
