"""Reads answers by the schemas of the server, leniently: a newer server may say what this version does not know.

An unknown field is kept, an unknown word of an enumeration is a plain string, and a field that is missing or has
another type than expected is None or what came. Nothing of this raises.
"""

import types
from enum import Enum, IntEnum
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from compute.client.errors import UnexpectedAnswer

__all__ = ["lenient", "read"]

ModelT = TypeVar("ModelT", bound=BaseModel)


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", protected_namespaces=(), defer_build=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle, which finds a class by its name: there it finds the schema of the server."""
        return _again, (type(self).__bases__[1],), self.__getstate__()


def read(model: type[ModelT], data: object) -> ModelT:
    """Read an answer, which is an object.

    Raises:
        UnexpectedAnswer: it is something else.

    Example:
        read(TaskPublic, {"id": "…", "status": "DREAMING"}).status  # "DREAMING"
    """
    if not isinstance(data, dict):
        raise UnexpectedAnswer("the server does not answer as this API does")
    kind: type[ModelT] = lenient(model)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        odd = {str(fault["loc"][0]) for fault in found if fault["loc"]}
        seen = _valid(kind, {name: value for name, value in data.items() if name not in odd})
        # As it came: whoever reads this field knows more than this version.
        vars(seen).update({name: data[name] for name in odd if name in data})
        return seen


def _valid(kind: type[ModelT], data: dict[str, Any]) -> ModelT:
    """A model of fields that are right each; as they came, if they do not fit together by a rule of the whole model."""
    try:
        return kind.model_validate(data)
    except ValidationError:
        return kind.model_construct(**data)


def _again(model: type[ModelT]) -> ModelT:
    """An answer of another process, before its fields are set."""
    kind = lenient(model)
    found: ModelT = kind.__new__(kind)  # type: ignore[call-overload]
    return found


@cache
def lenient(model: type[ModelT]) -> type[ModelT]:
    """A subclass of a model that reads whatever comes."""
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = _opened(field.annotation)
        if field.is_required():
            fields[name] = (kind | None, None)
        elif field.default_factory is not None:
            fields[name] = (kind, Field(default_factory=field.default_factory))
        else:
            fields[name] = (kind, field.default)
    bases: Any = (_Open, model)
    made: Any = create_model(model.__name__, __base__=bases, __module__=model.__module__, **fields)
    return cast("type[ModelT]", made)


def _opened(kind: Any) -> Any:
    """The same type without limits, in which enumerations may have any word."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _opened(arguments[0])
    if origin is Literal:
        return Any
    if origin in (Union, types.UnionType):
        return Union[tuple(_opened(one) for one in arguments)]  # noqa: UP007 - of a computed number of types
    if origin is not None and arguments:
        return origin[tuple(one if one is Ellipsis else _opened(one) for one in arguments)]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return lenient(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        plain = int if issubclass(kind, IntEnum) else str
        return Annotated[kind | plain, Field(union_mode="left_to_right")]
    return kind
