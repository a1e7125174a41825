"""Answers about errors, cut to a size that does not grow with what was sent."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from compute.requests.faults import MOST_FAULTS

__all__ = ["as_sentence", "bounded_faults", "bounded_text"]

_TEXT = 1000
_PART = 100
_PARTS = 32
_BYTES = 16 * 1024
_WORD = re.compile(r"[a-z]+[ ,:;'-]")
_ENDS = (".", "!", "?", "…")


def as_sentence(text: str) -> str:
    """A text that may be part of a sentence, such as what a file's reader says, with a capital letter and a full stop.

    What begins with a name (of a field, say) keeps its spelling.
    """
    begun = f"{text[:1].upper()}{text[1:]}" if _WORD.match(text) else text
    return begun if begun.endswith(_ENDS) else f"{begun}."


def bounded_text(text: str, most: int = _TEXT) -> str:
    """At most `most` characters of a text, and none that cannot be sent."""
    whole = text if len(text) <= most else f"{text[: most - 1]}…"
    return whole.encode("utf-8", "replace").decode()


def bounded_faults(faults: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Faults as an answer shows them: up to a hundred, and some kilobytes in all; the last one counts the rest."""
    found = list(faults)
    shown: list[dict[str, Any]] = []
    size = 0
    for fault in found[:MOST_FAULTS]:
        one = {"loc": _bounded_loc(fault["loc"]), "msg": bounded_text(as_sentence(fault["msg"])), "type": fault["type"]}
        size += len(json.dumps(one))
        if size > _BYTES:
            break
        shown.append(one)
    if left := len(found) - len(shown):
        shown.append({"loc": ["body"], "msg": f"There are {left} more faults.", "type": "more"})
    return shown


def _bounded_loc(loc: Iterable[str | int]) -> list[str | int]:
    return [bounded_text(part, _PART) if isinstance(part, str) else part for part in loc][:_PARTS]
