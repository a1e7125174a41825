"""Walks over a document made of dictionaries and lists."""

from collections.abc import Iterator
from typing import Any

__all__ = ["REF", "named", "objects", "references"]

REF = "#/components/schemas/"


def named(name: str) -> dict[str, Any]:
    """A reference to a schema of the document."""
    return {"$ref": f"{REF}{name}"}


def objects(part: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary in a part of a document, the outer before the inner."""
    if isinstance(part, dict):
        yield part
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            yield from objects(item)


def references(part: Any, schemas: dict[str, Any]) -> set[str]:
    """The names of all schemas that a part of a document refers to, and those that they refer to."""
    found: set[str] = set()
    pending = [part]
    while pending:
        for item in objects(pending.pop()):
            name = str(item.get("$ref", "")).removeprefix(REF)
            if name in schemas and name not in found:
                found.add(name)
                pending.append(schemas[name])
    return found
