"""Values on their way from one step to another: found, transformed, and dealt to the tasks of a step."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from compute.errors import InvalidInput, NotFound
from compute.schemas.enums import TransformType
from compute.schemas.workflows import Condition, FieldMapping
from compute.storage.together import for_each

__all__ = ["MISSING", "Files", "bodies", "find", "holds", "look_up", "mapped_values"]

MAX_TASKS = 1000
"""Of one step."""

_LINKS = {"_url": "_path", "_urls": "_paths"}
_OF_PATHS = frozenset({TransformType.URL, TransformType.BASE64})


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()
"""There is no such value. None counts as none, too."""

Results = Mapping[str, Mapping[str, Any] | None]
"""By step: its result, or None when it has none."""


class Files(Protocol):
    """Stored files, as two of the transforms need them."""

    async def link(self, path: str) -> str:
        """An address from which the file can be downloaded without a key.

        Raises:
            InvalidInput: it may not be read.
        """
        ...

    async def base64(self, path: str) -> str:
        """The file's content.

        Raises:
            InvalidInput: it may not be read.
            NotFound: there is no such file.
        """
        ...


def look_up(results: Results, step: str, path: str) -> tuple[Any, bool]:
    """The value that a mapping or a condition names, or MISSING; and whether it is a path of which a link is meant.

    Of the links that tasks show, which expire, results hold the paths that they lead to. Input and configuration are
    the caller's own words, and keep theirs.
    """
    name, dot, inner = path.partition(".")
    for ending, stored in _LINKS.items():
        if name.startswith("result_") and name.endswith(ending):
            value = find(results, step, name.removesuffix(ending) + stored + dot + inner)
            if value is not MISSING:
                return value, True
    return find(results, step, path), False


def find(results: Results, step: str, path: str) -> Any:
    """The value at a dotted path of a step's result as it is stored, or MISSING.

    Example:
        find({"generate": {"outputs": [{"seed": 7}]}}, "generate", "outputs.0.seed")  # 7
    """
    value: Any = results.get(step)
    for name in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(name)
        elif isinstance(value, Sequence) and not isinstance(value, str) and name.isdecimal():
            value = value[int(name)] if int(name) < len(value) else None
        else:
            return MISSING
    return MISSING if value is None else value


async def mapped_values(mappings: Sequence[FieldMapping], results: Results, files: Files) -> dict[str, Any]:
    """The value of every field that has one.

    Raises:
        InvalidInput: a transform cannot be applied; names the field.
    """
    values: dict[str, Any] = {}
    for mapping in mappings:
        if mapping.to_field not in values:
            value = await _mapped(mapping, results, files)
            if value is not MISSING:
                values[mapping.to_field] = value
    return values


def bodies(static: Mapping[str, Any], values: Mapping[str, Any], spread: frozenset[str]) -> list[dict[str, Any]]:
    """One body for every task of a step: each gets its element of the lists in `spread` and all of the other values.

    Example:
        bodies({"n": 4}, {"seed": [1, 2]}, frozenset({"seed"}))  # [{"n": 4, "seed": 1}, {"n": 4, "seed": 2}]

    Raises:
        InvalidInput: the lists differ in length, or there are too many elements.
    """
    dealt = sorted(name for name in spread & values.keys() if isinstance(values[name], list))
    if not dealt:
        return [{**static, **values}]
    for name in dealt:
        if len(values[name]) != len(values[dealt[0]]):
            sizes = f"{len(values[dealt[0]])} elements of {dealt[0]}, {len(values[name])} of {name}"
            raise InvalidInput(f"Lists that are dealt together must be of one length: {sizes}.", field=name)
    count = len(values[dealt[0]])
    if count > MAX_TASKS:
        raise InvalidInput(f"A step makes at most {MAX_TASKS} tasks; this one would make {count}.", field=dealt[0])
    return [{**static, **values, **{name: values[name][index] for name in dealt}} for index in range(count)]


def holds(condition: Condition, results: Results) -> bool:
    """Whether a condition holds. Without a value nothing does, but that it does not exist."""
    found, _ = look_up(results, condition.from_step, condition.from_field)
    if condition.op == "exists":
        return (found is not MISSING) is (condition.value is not False)
    if found is MISSING:
        return False
    try:
        return _compare(condition.op, found, condition.value)
    except TypeError:
        raise InvalidInput(f"Field `{condition.from_field}` and the value cannot be compared.", field="when") from None


def _compare(op: str, found: Any, value: Any) -> bool:
    match op:
        case "eq":
            return bool(found == value)
        case "ne":
            return bool(found != value)
        case "gt":
            return bool(found > value)
        case "ge":
            return bool(found >= value)
        case "lt":
            return bool(found < value)
        case "le":
            return bool(found <= value)
        case _:
            return found in value


async def _mapped(mapping: FieldMapping, results: Results, files: Files) -> Any:
    value, is_link = look_up(results, mapping.from_step, mapping.from_field)
    if value is MISSING:
        return MISSING
    try:
        if is_link and mapping.transform not in _OF_PATHS:
            value = await _transform(TransformType.URL, value, None, files)
        value = await _transform(mapping.transform, value, mapping.index, files)
    except (TypeError, ValueError, InvalidInput, NotFound) as error:
        raise InvalidInput(
            f"Field `{mapping.from_field}` of `{mapping.from_step}` cannot be taken: {error}", field=mapping.to_field
        ) from None
    return MISSING if value is None else value


async def _transform(transform: TransformType | None, value: Any, index: int | None, files: Files) -> Any:
    match transform:
        case None:
            return value
        case TransformType.FIRST:
            return _element(value, 0)
        case TransformType.LAST:
            return _element(value, -1)
        case TransformType.INDEX:
            return _element(value, index or 0)
        case TransformType.LIST:
            return value if isinstance(value, list) else [value]
        case TransformType.JSON:
            return json.dumps(value, ensure_ascii=False)
        case _:
            if isinstance(value, list):
                return await for_each(value, lambda item: _one(transform, item, files))
            return await _one(transform, value, files)


async def _one(transform: TransformType, value: Any, files: Files) -> Any:
    if transform is TransformType.STRING:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        raise TypeError(f"{transform} needs a storage path")
    return await (files.link(value) if transform is TransformType.URL else files.base64(value))


def _element(value: Any, index: int) -> Any:
    if not isinstance(value, list):
        raise TypeError("it is no list")
    try:
        return value[index]
    except IndexError:
        raise ValueError(f"it has no element {index}, only {len(value)} elements") from None
