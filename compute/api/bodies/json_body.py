"""Reads a JSON body that may be anything, and hands on only what can be kept as it was sent.

The work is bounded before it is done: reading JSON holds up every other request, and takes up to a hundred times the
memory of its text. What a body may be large for is the text of an image.
"""

import asyncio
import json
import math
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from fastapi import Request

from compute.api.bodies.long_texts import LongTexts, is_escaped
from compute.errors import InvalidFields, InvalidInput
from compute.requests.faults import MOST_FAULTS
from compute.schemas.rules.sentences import name_of

__all__ = ["MAX_VALUES", "json_object", "parsed"]

MAX_DEPTH = 32
"""Objects and lists inside each other; real requests need five."""
MAX_VALUES = 50_000
"""Of one body: a thousand tasks of fifty fields, or a workflow of 500 steps with a hundred values each."""
_MOST_ESCAPES = 2_000_000
"""The base64 of the largest image has fewer, with line breaks or with its slashes escaped."""
_MOST_DIGITS = 128

_ESCAPE = 6
"""Bytes of an escaped character."""
_WINDOW = 256 * 1024
# Half of a pair, as far as that can be told here, or NUL.
_SUSPICIOUS = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)")
_ZERO = re.compile(r"-?[0.]+(?:[eE].*)?")

Location = tuple[str | int, ...]


async def json_object(request: Request) -> dict[str, Any]:
    """The request's body as a JSON object.

    Raises:
        InvalidInput: another content type, no JSON, not an object, or too much of it.
        InvalidFields: something in it cannot be kept; says where.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise InvalidInput("Send JSON, with Content-Type: application/json.")
    content = await request.body()
    # A thread takes as long, but others have their turns meanwhile.
    return await asyncio.to_thread(parsed, content) if len(content) > _WINDOW else parsed(content)


def parsed(content: bytes) -> dict[str, Any]:
    """A JSON object as it was written: no key twice, no number that would come back as another one.

    Raises:
        InvalidInput: no JSON, not an object, or too much of it.
        InvalidFields: something in it cannot be kept; says where.
    """
    _check_amount(content)
    texts = None
    try:
        texts = LongTexts(content)
        body = _DECODER.decode(texts.rest.decode())
    except UnicodeDecodeError:
        raise InvalidInput("The body must be UTF-8.") from None
    except RecursionError:
        raise InvalidInput(f"The JSON is nested more than {MAX_DEPTH} levels deep.") from None
    except json.JSONDecodeError as error:
        position = texts.position(error.pos) if texts else error.pos
        raise InvalidInput(f"This is not JSON: {error.msg} at character {position}.") from None
    if not isinstance(body, dict):
        raise InvalidInput("Send a JSON object.")
    texts.put_back(body)
    suspicious = _is_suspicious(content)
    faults = [
        {"loc": ("body", *loc), "msg": f"Field `{name_of(loc)}` {said}.", "type": "invalid_json"}
        for loc, said in islice(_faults(body, texts=suspicious), MOST_FAULTS)
    ]
    if faults:
        raise InvalidFields(faults)
    return body


def _check_amount(content: bytes) -> None:
    """Raises:
    InvalidInput: it would take too long to read.
    """
    if _has_as_many(content, (b"\\",), _MOST_ESCAPES):
        raise InvalidInput(f"The JSON has more than {_MOST_ESCAPES} escaped characters.")
    # Every value but the first stands behind one of these, and so does many a word of a prompt.
    if _has_as_many(content, (b",", b"[", b"{"), MAX_VALUES) and _has_too_many_values(content):
        raise InvalidInput(f"The JSON has more than {MAX_VALUES} values.")


def _is_suspicious(content: bytes) -> bool:
    """Whether some text may be one that cannot be kept."""
    windows = range(0, len(content), _WINDOW)
    return any(_SUSPICIOUS.search(content, start, start + _WINDOW + _ESCAPE) for start in windows)


def _has_as_many(content: bytes, characters: Sequence[bytes], most: int) -> bool:
    found = 0
    for start in range(0, len(content), _WINDOW):
        found += sum(content.count(one, start, start + _WINDOW) for one in characters)
        if found >= most:
            return True
    return False


def _has_too_many_values(content: bytes) -> bool:
    """Whether there are as many separators outside of strings. Strings are found by their quotes, of which there may be
    four a value."""
    separators, inside, at = 0, False, 0
    for _ in range(4 * MAX_VALUES):
        quote = content.find(b'"', at)
        if not inside:
            separators += _separators(content, at, len(content) if quote < 0 else quote)
        if separators >= MAX_VALUES:
            return True
        if quote < 0:
            return False
        if not (inside and is_escaped(content, quote)):
            inside = not inside
        at = quote + 1
    return True


def _separators(content: bytes, start: int, end: int) -> int:
    return sum(content.count(one, start, end) for one in (b",", b"[", b"{"))


class _Unusable:
    """Stands for a value that cannot be kept, and says why."""

    def __init__(self, said: str) -> None:
        self.said = said


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                made[name] = _Unusable("is there more than once")
            seen.add(name)
    return made


def _integer(text: str) -> Any:
    return int(text) if len(text) <= _MOST_DIGITS else _Unusable(f"must have at most {_MOST_DIGITS} digits")


def _number(text: str) -> Any:
    if len(text) > _MOST_DIGITS:
        return _Unusable(f"must have at most {_MOST_DIGITS} digits")
    value = float(text)
    if math.isinf(value):
        return _Unusable("must be a finite number")
    if value == 0 and _ZERO.fullmatch(text) is None:
        return _Unusable("must be 0, or farther from it")
    return value


def _no_number(text: str) -> Any:
    return _Unusable(f"must be a number, which {text} is not in JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_no_number
)


def _faults(body: dict[str, Any], *, texts: bool) -> Iterator[tuple[Location, str]]:
    """Texts and keys that cannot be stored, each with its location. `texts`: some text may be of that kind."""
    pending: list[tuple[Location, Any]] = [((), body)]
    while pending:
        loc, holder = pending.pop()
        if len(loc) >= MAX_DEPTH:
            yield loc[:1], f"must be nested at most {MAX_DEPTH} levels deep"
            return
        for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            if isinstance(value, dict | list):
                pending.append(((*loc, key), value))
            elif isinstance(value, _Unusable):
                yield (*loc, key), value.said
            elif texts and isinstance(value, str) and (said := _wrong_text(value)):
                yield (*loc, key), said
            if texts and isinstance(key, str) and (said := _wrong_text(key)):
                yield loc, f"has a key that {said}"


def _wrong_text(text: str) -> str | None:
    if "\x00" in text:
        return "must not contain NUL characters"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "must be valid Unicode"
    return None
