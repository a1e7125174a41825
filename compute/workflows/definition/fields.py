"""The fields that a task type takes and that its results have, with the shapes of their values.

A shape is read from the JSON schema of the type's models, so a new type needs nothing here.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import AliasChoices, BaseModel

from compute.schemas.enums import TransformType
from compute.schemas.tasks import TaskPublic
from compute.tasks.registry import TaskKind

__all__ = [
    "ANYTHING",
    "TEXT",
    "Shape",
    "list_of",
    "names_of",
    "required_fields",
    "shape_of_value",
    "source_shapes",
    "target_shapes",
    "transformed",
]

_SCALARS = frozenset({"string", "number", "boolean", "object"})


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a value: JSON types without `null` (an integer is a number), and those of a list's elements."""

    kinds: frozenset[str]
    items: "Shape | None" = None

    def accepts(self, other: "Shape") -> bool:
        """Whether a value of shape `other` may be given where this one is expected."""
        shared = self.kinds & other.kinds
        if shared - {"array"}:
            return True
        return "array" in shared and (self.items is None or other.items is None or self.items.accepts(other.items))

    @property
    def is_list(self) -> bool:
        return self.kinds == {"array"}

    @property
    def element(self) -> "Shape":
        """The shape of one element of the list."""
        return self.items or ANYTHING

    def __str__(self) -> str:
        if self.is_list:
            return f"a list of {'anything' if self.items is None else self.items}"
        return " or ".join(sorted(self.kinds))


ANYTHING = Shape(_SCALARS | {"array"})
TEXT = Shape(frozenset({"string"}))

_OF_A_LIST = frozenset({TransformType.FIRST, TransformType.LAST, TransformType.INDEX})
_ONE_BY_ONE = frozenset({TransformType.URL, TransformType.BASE64, TransformType.STRING})
_OF_RESULTS = {"outputs": Shape(frozenset({"array"}), Shape(frozenset({"object"}))), "metadata": ANYTHING}


def list_of(shape: Shape) -> Shape:
    return Shape(frozenset({"array"}), shape)


def transformed(shape: Shape, transform: TransformType | None) -> Shape | None:
    """The shape that a transform makes of a value of this shape; None when it cannot be applied.

    Example:
        transformed(list_of(TEXT), TransformType.FIRST)  # TEXT
    """
    if transform is None:
        return shape
    if transform in _OF_A_LIST:
        return shape.element if "array" in shape.kinds else None
    if transform is TransformType.LIST:
        return shape if shape.is_list else list_of(shape)
    if transform is TransformType.JSON:
        return TEXT
    of = shape.element if shape.is_list else shape
    if transform in _ONE_BY_ONE and (transform is TransformType.STRING or "string" in of.kinds):
        return list_of(TEXT) if shape.is_list else TEXT
    return None


@cache
def target_shapes(kind: TaskKind[Any]) -> dict[str, Shape]:
    """The fields that a request of this type has, by every name that it accepts."""
    schema = _shapes(kind.create_model)
    return {name: schema[field] for field in schema for name in _names(kind, field)}


def names_of(kind: TaskKind[Any], name: str) -> set[str]:
    """All names of the field that a request may call `name`."""
    return next(names for field in kind.create_model.model_fields if name in (names := _names(kind, field)))


def required_fields(kind: TaskKind[Any]) -> list[set[str]]:
    """The names of every field that a request must have."""
    return [_names(kind, field) for field, info in kind.create_model.model_fields.items() if info.is_required()]


@cache
def source_shapes(kind: TaskKind[Any]) -> dict[str, Shape]:
    """The fields that a result of this type has: what its tasks show beyond what all tasks do."""
    own = kind.public_model.model_fields.keys() - TaskPublic.model_fields.keys() - {"task_type"}
    return {name: shape for name, shape in _shapes(kind.public_model).items() if name in own} | _OF_RESULTS


def shape_of_value(value: Any) -> Shape:
    """The shape of a value that is there; None may become anything."""
    if isinstance(value, bool):
        return Shape(frozenset({"boolean"}))
    if isinstance(value, int | float):
        return Shape(frozenset({"number"}))
    if isinstance(value, str):
        return TEXT
    if isinstance(value, dict):
        return Shape(frozenset({"object"}))
    if isinstance(value, list):
        shapes = [shape_of_value(item) for item in value]
        return list_of(Shape(frozenset().union(*(shape.kinds for shape in shapes)))) if shapes else list_of(ANYTHING)
    return ANYTHING


def _names(kind: TaskKind[Any], field: str) -> set[str]:
    alias = kind.create_model.model_fields[field].validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return {field, *(choice for choice in choices if isinstance(choice, str))}


def _shapes(model: type[BaseModel]) -> dict[str, Shape]:
    schema = model.model_json_schema(by_alias=False)
    definitions = schema.get("$defs", {})
    return {name: _shape(part, definitions) for name, part in schema["properties"].items()}


def _shape(schema: dict[str, Any], definitions: dict[str, Any]) -> Shape:
    if "$ref" in schema:
        return _shape(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return _union([_shape(part, definitions) for part in schema[union] if part.get("type") != "null"])
    if "type" not in schema:
        values = [schema["const"]] if "const" in schema else schema.get("enum", [])
        return _union([shape_of_value(value) for value in values]) if values else ANYTHING
    kind = "number" if schema["type"] == "integer" else schema["type"]
    items = _shape(schema["items"], definitions) if kind == "array" and "items" in schema else None
    return Shape(frozenset({kind}), items)


def _union(shapes: list[Shape]) -> Shape:
    if not shapes:
        return ANYTHING
    items = [shape.items for shape in shapes if shape.items is not None]
    kinds = frozenset[str]().union(*(shape.kinds for shape in shapes))
    return Shape(kinds, _union(items) if items else None)
