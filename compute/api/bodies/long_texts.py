"""Long texts of a JSON body, such as inline images, read a piece at a time.

One call that reads tens of megabytes keeps the interpreter to itself, also in a thread of its own; between two calls
others have their turns.
"""

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

__all__ = ["LongTexts", "is_escaped"]

_LONG = 256 * 1024
_PIECE = 1024 * 1024
_PAIR = 12
"""Bytes of an escaped character beyond the basic plane, which must stay together: `\\ud83d\\ude00`."""
_SEARCHED = 4096
_MOST_QUOTES = 200_000
"""Texts behind so many are read with the rest."""
_BACKSLASH = ord("\\")


@dataclass(slots=True)
class LongTexts:
    """A body's long texts, and `rest`: the body with a name instead of each of them.

    Raises:
        json.JSONDecodeError: a long text is no JSON string.
        UnicodeDecodeError: a long text is not UTF-8.
    """

    content: bytes
    rest: bytes = field(init=False)
    _texts: dict[str, str] = field(default_factory=dict)
    _removed: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Nobody can send a text of this name.
        token, content = secrets.token_hex(16), self.content
        parts: list[bytes] = []
        done = at = length = 0
        for _ in range(_MOST_QUOTES):
            # Most bodies are too short to hold one.
            opening = content.find(b'"', at) if len(content) - at > _LONG else -1
            closing = _closing(content, opening + 1) if opening >= 0 else -1
            if closing < 0:
                break
            at = closing + 1
            if closing - opening > _LONG and not _is_key(content, at):
                name = f"{token}-{len(self._texts)}"
                self._texts[name] = _text(content, opening + 1, closing)
                parts += [content[done : opening + 1], name.encode()]
                length += opening + 1 - done + len(name)
                self._removed.append((length, closing - opening - 1 - len(name)))
                done = closing
        self.rest = b"".join([*parts, content[done:]])

    def position(self, position: int) -> int:
        """A position in `rest`, as one in the content."""
        return position + sum(more for end, more in self._removed if end <= position)

    def put_back(self, value: Any) -> None:
        """Put the texts in what was read of `rest`."""
        pending = [value] if self._texts else []
        while pending:
            holder = pending.pop()
            for key, one in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
                if isinstance(one, dict | list):
                    pending.append(one)
                elif isinstance(one, str) and one in self._texts:
                    holder[key] = self._texts[one]


def is_escaped(content: bytes, position: int) -> bool:
    """Whether an odd number of backslashes stands before a position."""
    first = position
    while content[first - 1] == _BACKSLASH:
        first -= 1
    return (position - first) % 2 == 1


def _closing(content: bytes, at: int) -> int:
    while (quote := content.find(b'"', at)) >= 0 and is_escaped(content, quote):
        at = quote + 1
    return quote


def _is_key(content: bytes, behind: int) -> bool:
    return content[behind : behind + _SEARCHED].lstrip()[:1] == b":"


def _text(content: bytes, start: int, end: int) -> str:
    """The text of a literal, whose quotes are before `start` and at `end`."""
    pieces = []
    while start < end:
        cut = _cut(content, start + _PIECE, end)
        try:
            pieces.append(json.loads(f'"{content[start:cut].decode()}"'))
        except json.JSONDecodeError as error:
            raise json.JSONDecodeError(error.msg, "", start + error.pos - 1) from None
        start = cut
    return "".join(pieces)


def _cut(content: bytes, near: int, end: int) -> int:
    """An index at which a literal can be cut in two: neither in a character nor in an escape."""
    while near < end:
        for cut in range(near, near - _SEARCHED, -1):
            if content[cut] & 0xC0 != 0x80 and b"\\" not in content[cut - _PAIR : cut]:
                return cut
        near += _PIECE
    return end
