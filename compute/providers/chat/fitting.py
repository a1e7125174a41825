"""Whether an answer fits the JSON Schema that was sent with its question.

Schemas are users' and answers are models', so a check must end: it has a budget of steps, fetches nothing, and leaves
out what may take without end (regular expressions, comparing each item with each).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

__all__ = ["misfit"]

_MOST_STEPS = 100_000
_LONGEST_WORDS = 300
_LEFT_OUT = ("pattern", "patternProperties", "uniqueItems", "unevaluatedProperties", "unevaluatedItems")

Keyword = Callable[[Any, Any, Any, Any], Any]


class _TooMuch(Exception):
    """The check takes more steps than any that is worth it."""


def misfit(text: str | None, schema: Mapping[str, Any]) -> str | None:
    """Why an answer does not fit, as a sentence; None if it does. Of a schema that cannot be checked, or not within
    bounds, no more is asked than one JSON object. It is CPU work.

    Example:
        misfit('{"a": 1}', {"type": "object", "properties": {"a": {"type": "string"}}})
        # "At a: 1 is not of type 'string'."
    """
    try:
        answer = json.loads(text or "", parse_constant=_no_number)
    except (ValueError, RecursionError):
        return "It is not JSON, or has text around it."
    if not isinstance(answer, dict):
        return "It is not a JSON object."
    try:
        return _first_fault(answer, schema)
    except Exception:
        return None


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _first_fault(answer: Any, schema: Mapping[str, Any]) -> str | None:
    from referencing import Registry

    # An empty registry: addresses in a schema are not fetched.
    checks = _validator(_Budget())(schema, registry=Registry())
    fault = next(checks.iter_errors(answer), None)
    if fault is None:
        return None
    place = ".".join(map(str, fault.absolute_path))
    words = f"{fault.message[:_LONGEST_WORDS].rstrip('.')}."
    return f"At {place[:_LONGEST_WORDS]}: {words}" if place else words


class _Budget:
    """The steps that are left of a check."""

    def __init__(self) -> None:
        self._left = _MOST_STEPS

    def counted(self, keyword: Keyword) -> Keyword:
        """The same check, which costs a step."""

        def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
            self._left -= 1
            if self._left < 0:
                raise _TooMuch
            yield from keyword(validator, value, instance, schema) or ()

        return check


def _validator(budget: _Budget) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    keywords = {name: budget.counted(keyword) for name, keyword in _keywords().items()}
    return extend(Draft202012Validator, {**keywords, **dict.fromkeys(_LEFT_OUT)})


@cache
def _keywords() -> Mapping[str, Keyword]:
    from jsonschema import Draft202012Validator

    known: dict[str, Keyword] = dict(Draft202012Validator.VALIDATORS)
    others = known["additionalProperties"]

    def additional(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        # Which properties are additional is a matter of patterns, if there are any.
        if "patternProperties" not in schema:
            yield from others(validator, value, instance, schema) or ()

    return known | {"additionalProperties": additional}
