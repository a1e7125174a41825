"""Reads server-sent events from bytes as they come, without waiting for anything."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

from compute.client.errors import UnexpectedAnswer

__all__ = ["Message", "MessageReader"]

_MOST_CHARACTERS = 64 * 1024 * 1024
"""Limit for one event, which is a whole task at most."""


@dataclass(frozen=True, slots=True)
class Message:
    """One event as it was sent; `id` is that of the last event which had one."""

    event: str
    data: str
    id: str | None


class MessageReader:
    """Makes events of the bytes of one connection. An event that was cut off is none.

    Example:
        list(MessageReader().feed(b"event: text\\ndata: hello\\n\\n"))  # [Message("text", "hello", None)]
    """

    def __init__(self, last_id: str | None = None) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._rest = ""
        self._last_id = last_id
        self._event = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """The events that these bytes complete.

        Raises:
            UnexpectedAnswer: one event is larger than any of this API.
        """
        self._rest += self._decode(chunk)
        *lines, self._rest = self._rest.split("\n")
        for line in lines:
            if message := self._take(line.removesuffix("\r")):
                yield message
        if len(self._rest) + sum(map(len, self._data)) > _MOST_CHARACTERS:
            raise UnexpectedAnswer("an event of the stream is too large")

    def _take(self, line: str) -> Message | None:
        if not line:
            return self._complete()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._last_id = value
        return None

    def _complete(self) -> Message | None:
        event, data = self._event, self._data
        self._event, self._data = "", []
        return Message(event or "message", "\n".join(data), self._last_id) if data else None
