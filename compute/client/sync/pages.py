# Made of compute/client/aio by `python -m tools.unasync`: change it there.
"""Lists, fetched page by page as they are walked."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Generic, TypeVar

from compute.client.common.calls import Call, behind, json_of
from compute.client.errors import UnexpectedAnswer
from compute.client.sync.transport import Transport

__all__ = ["Pages"]

T = TypeVar("T")


class Pages(Generic[T]):
    """A list of the server. Nothing is asked for before it is walked, and no more than is walked.

    What comes or goes meanwhile moves nothing: a page begins behind the last item of the one before it.

    Example:
        for task in client.tasks.list(status="FAILED"):
            print(task.id, task.error)
    """

    def __init__(self, transport: Transport, call: Call, name: str | None, item: Callable[[Any], T]) -> None:
        self._transport = transport
        self._call = call
        self._name = name
        self._item = item

    def __iter__(self) -> Iterator[T]:
        for page in self.pages():
            yield from page

    def pages(self) -> Iterator[list[T]]:
        """The pages, each a list."""
        call, seen = self._call, set[tuple[str, str]]()
        while True:
            answer = self._transport.send(call)
            body = json_of(answer)
            items = body.get(self._name) if self._name and isinstance(body, dict) else body
            if not isinstance(items, list):
                raise UnexpectedAnswer("the server does not answer as this API does", answer.status_code)
            yield [self._item(item) for item in items]
            following = behind(call, body, answer.headers)
            if following is None:
                return
            if following in seen:
                raise UnexpectedAnswer("the pages of this list go round in a circle", answer.status_code)
            seen.add(following)
            rest = tuple(one for one in self._call.params if one[0] not in ("cursor", "skip", "page"))
            call = replace(self._call, params=(*rest, following))

    def first(self) -> T | None:
        """The first item; None if there is none."""
        for item in self:
            return item
        return None
