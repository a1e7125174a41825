"""Turns pydantic's errors into sentences that name the field as the caller wrote it, and the accepted values."""

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

from pydantic import AliasChoices, BaseModel

__all__ = ["Fault", "as_sent", "name_of", "names_of_field", "presented", "same_as", "sentence"]

Fault = dict[str, Any]
"""An error with `loc`, `msg` and `type`, as an answer shows it."""

_QUOTED = re.compile(r"'([^']*)'")
_MOST_GUESSES = 3
_LONGEST_GUESS = 64
_KINDS = {"query": "Parameter", "path": "Parameter", "header": "Header"}

_WORDS: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is unknown here",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a string",
    "string_unicode": "must be valid Unicode",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
    "union_tag_not_found": "needs a `type`",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be greater than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} elements",
}
_DATE = "must be a date and time such as 2026-01-31T12:00:00Z"


def presented(
    errors: Sequence[Any], *, sent: Any = None, model: type[BaseModel] | None = None, at: tuple[str | int, ...] = ()
) -> list[Fault]:
    """Convert the errors of a validation to faults.

    `sent` is the validated value: parts of a location that are not in it (the branch of a union, say) are left out.
    `model` is the model of the validation, to suggest a field for a misspelt one. `at` goes before every location.
    """
    guesses = _MOST_GUESSES
    found: list[tuple[bool, Fault]] = []
    for error in errors:
        inside = error["loc"] if sent is None else as_sent(error["loc"], sent, absent=error["type"] == "missing")
        loc = (*at, *inside)
        said = sentence(error, loc)
        if error["type"] == "extra_forbidden" and len(inside) == 1 and model is not None and guesses:
            guesses -= 1
            said = _unknown(said, str(inside[0]), model, sent)
        found.append((len(inside) < len(error["loc"]), {"loc": loc, "msg": said, "type": error["type"]}))
    return _without_twins(found)


def as_sent(loc: Sequence[str | int], sent: Any, *, absent: int = 0) -> tuple[str | int, ...]:
    """Return a location without the parts that are not in `sent`. The last `absent` parts may be missing ones."""
    kept: list[str | int] = []
    for left, part in zip(range(len(loc), 0, -1), loc, strict=True):
        inside = _inside(sent, part)
        if inside:
            kept.append(part)
            sent = inside[0]
        elif left <= absent and not (isinstance(part, int) and isinstance(sent, str)):
            kept.append(part)
            sent = None
    return tuple(kept)


def sentence(error: Any, loc: Sequence[str | int]) -> str:
    """Return the error at `loc` as a sentence that names its last part."""
    said = _said(error)
    if error["type"] == "value_error" and not said.startswith("must "):
        return said
    return f"{_KINDS.get(str(loc[0]) if loc else '', 'Field')} `{name_of(loc)}` {said}."


def names_of_field(model: type[BaseModel], field: str) -> tuple[str, ...]:
    """Return every name of a field that a body may use, the field's own name first."""
    alias = model.model_fields[field].validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return tuple(dict.fromkeys([field, *(choice for choice in choices if isinstance(choice, str))]))


def _inside(sent: Any, part: str | int) -> tuple[Any, ...]:
    """The part of the value in a tuple; an empty one if it has no such part."""
    if isinstance(sent, Mapping):
        return (sent[part],) if part in sent else ()
    if isinstance(sent, Sequence) and not isinstance(sent, str) and isinstance(part, int):
        return (sent[part],) if part < len(sent) else ()
    return ()


def _said(error: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _WORDS:
        return _WORDS[kind].format(**context)
    if (special := _SPECIAL.get(kind)) is not None:
        return special(context)
    if kind == "value_error":
        return _own_words(context)
    if kind.startswith(("datetime", "date_", "timezone")):
        return _DATE
    # Messages of our own validators; any other is pydantic's, in terms of Python.
    return str(error["msg"]) if str(error["msg"]).startswith("must ") else "has a form that is not accepted here"


def _own_words(context: Mapping[str, Any]) -> str:
    said = str(context.get("error", ""))
    if said.startswith("must "):
        return said
    return f"{said[:1].upper()}{said[1:].removesuffix('.')}."


def _expected(context: Mapping[str, Any]) -> str:
    names = _QUOTED.findall(text := str(context.get("expected", "")))
    return _choice(names or text.replace(" or ", ", ").split(", "))


def _choice(names: Sequence[str]) -> str:
    return f"must be {names[0]}" if len(names) == 1 else f"must be one of {', '.join(names)}"


def _pattern(context: Mapping[str, Any]) -> str:
    pattern = str(context.get("pattern", ""))
    if "\\x" in pattern:
        return "must be one line of text"
    return "must not be blank" if pattern == r"\S" else f"must match the pattern {pattern}"


def _least(unit: str, context: Mapping[str, Any]) -> str:
    least = context.get("min_length")
    return "must not be empty" if least == 1 else f"must have at least {least} {unit}"


_SPECIAL: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "enum": _expected,
    "literal_error": _expected,
    "union_tag_invalid": lambda context: f"has a `type` that {_choice(_QUOTED.findall(context['expected_tags']))}",
    "string_pattern_mismatch": _pattern,
    "string_too_short": partial(_least, "characters"),
    "too_short": partial(_least, "elements"),
}


def name_of(loc: Sequence[str | int]) -> str:
    """Return the last name in a location with the numbers after it, as in `source_images[3]`."""
    name = ""
    for part in loc:
        name = part if isinstance(part, str) else f"{name}[{part}]"
    return name or "body"


def same_as(name: str, twin: str) -> str:
    """Return the message about a field that is there under another of its names, too."""
    return f"Field `{name}` means the same as `{twin}`; send one of them."


def _unknown(said: str, name: str, model: type[BaseModel], sent: Any) -> str:
    """The message about a field that the model does not have under this name."""
    names = {other: field for field in model.model_fields for other in names_of_field(model, field)}
    if name in names and isinstance(sent, Mapping):
        twin = next((other for other in names if names[other] == names[name] and other in sent and other != name), "")
        return same_as(name, twin)
    close = get_close_matches(name, names, n=1) if len(name) <= _LONGEST_GUESS else []
    return f"{said.removesuffix('.')}; did you mean `{close[0]}`?" if close else said


def _without_twins(found: Sequence[tuple[bool, Fault]]) -> list[Fault]:
    """Reduce the errors of a union's branches.

    A fault deeper inside tells more than one about the kind of the whole value; several faults of one value become one
    sentence.
    """
    kept: dict[tuple[Any, ...], Fault] = {}
    deeper = {fault["loc"][:length] for _, fault in found for length in range(len(fault["loc"]))}
    for of_a_branch, fault in found:
        loc = fault["loc"]
        if of_a_branch and loc in deeper:
            continue
        if of_a_branch and loc in kept and fault["msg"] not in kept[loc]["msg"]:
            rest = fault["msg"].partition("` must be ")[2]
            if rest and kept[loc]["msg"].partition("` must be ")[2]:
                kept[loc] = kept[loc] | {"msg": f"{kept[loc]['msg'].removesuffix('.')} or {rest}"}
            continue
        kept.setdefault(loc, fault)
    return list(kept.values())
