"""Strict JSON types for request bodies: a number is not a string, and true is not a number.

By default pydantic accepts `"128"`, `128.0` and `true` for an integer. The published schema allows none of them, and
silent conversion hides mistakes of the caller.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_before_validator_function

__all__ = ["JsonBody"]

_STRICT = frozenset({"int", "float", "bool"})
_SCHEMAS = ("schema", "items_schema", "values_schema", "steps")
_NAMED_SCHEMAS = ("fields", "choices")


def _strict(schema: Any) -> Any:
    """Make the numbers, booleans and times of a core schema strict, at any depth."""
    if isinstance(schema, list | tuple):
        return type(schema)(_strict(part) for part in schema)
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    if kind in _STRICT:
        return schema | {"strict": True}
    if kind in ("datetime", "date"):
        return no_info_before_validator_function(_text, schema)
    nested = {name: _strict(schema[name]) for name in _SCHEMAS if name in schema}
    for name in _NAMED_SCHEMAS:
        parts = schema.get(name)
        if isinstance(parts, dict):
            nested[name] = {key: _strict(part) for key, part in parts.items()}
        elif parts is not None:
            nested[name] = _strict(parts)
    return schema | nested


def _text(value: Any) -> Any:
    if isinstance(value, int | float):
        raise PydanticCustomError("datetime_type", "must be a string")
    return value


class JsonBody(BaseModel):
    """A request body in JSON. Unknown fields and values of another JSON type are refused.

    An integer is written without a decimal point: `128.0` is refused, because many languages read it as another type.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        made: CoreSchema = _strict(handler(source))
        return made
