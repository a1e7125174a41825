"""Bodies as JSON has them: a number is no string, and true is no number.

Left alone, pydantic takes `"128"`, `128.0` and `true` for an integer. The schema that we publish says none of that, and
what is taken in silence is a mistake that its author finds last.
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
    """A core schema whose numbers, booleans and times are strict, at any depth."""
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
    """What a client sends as JSON. Unknown fields are refused, and so is a value of another JSON type.

    An integer is written without a decimal point: `128.0` is refused, as many languages read it as another type.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        made: CoreSchema = _strict(handler(source))
        return made
