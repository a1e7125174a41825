"""The methods of each path, over all routers."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

__all__ = ["Match", "RouteTable"]


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    pattern: re.Pattern[str]
    methods: frozenset[str]
    name: str


@dataclass(frozen=True, slots=True)
class Match:
    """A route that a request leads to.

    Attributes:
        path: Its path, as the OpenAPI document writes it.
        name: The name of its function.
        parameters: What the path has for its parameters, as it was sent.
    """

    path: str
    name: str
    parameters: Mapping[str, str]


class RouteTable:
    """The routes of an application by path.

    A path without parameters hides those with parameters that would match it as well: `/tasks/bulk` is no task.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._literal: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._patterns: list[_Entry] = []
        for context in iter_route_contexts(list(routes)):
            if context.path is None:
                continue
            # A mounted application answers for itself; those that we mount serve files.
            methods = frozenset(context.methods or {"GET", "HEAD"})
            if "{" in context.path or context.methods is None:
                self._patterns.append(_Entry(context.path, context.path_regex, methods, str(context.name)))
            else:
                # The first that has a method answers it.
                self._literal[context.path] = dict.fromkeys(methods, str(context.name)) | self._literal[context.path]

    def methods(self, path: str) -> frozenset[str]:
        """The methods of all routes at `path`, without those that follow from others; empty if there is no route."""
        if path in self._literal:
            return frozenset(self._literal[path])
        return frozenset(method for entry in self._matching(path) for method in entry.methods)

    def template(self, path: str, method: str) -> str | None:
        """The path of the route that answers, as the OpenAPI document writes it."""
        if path in self._literal:
            return path
        return next((entry.path for entry in self._matching(path) if method in entry.methods), None)

    def match(self, path: str, method: str) -> Match | None:
        """The route that answers; None if there is none."""
        if path in self._literal:
            name = self._literal[path].get(method)
            return None if name is None else Match(path, name, {})
        for entry in self._patterns:
            if method in entry.methods and (found := entry.pattern.match(path)) is not None:
                return Match(entry.path, entry.name, found.groupdict())
        return None

    def other_spelling(self, path: str) -> str | None:
        """The path that is meant, where `path` has a slash too many or too few at its end."""
        if path in self._literal:
            return None
        other = path.removesuffix("/") if path.endswith("/") else f"{path}/"
        if other in self._literal:
            return other
        return other if not self.methods(path) and self.methods(other) else None

    def _matching(self, path: str) -> Iterator[_Entry]:
        return (entry for entry in self._patterns if entry.pattern.match(path))
