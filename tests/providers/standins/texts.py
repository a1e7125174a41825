"""Answers of the stand-ins' language models: text that shows what was asked, or JSON that fits a schema."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Completion", "completion_text", "example_of", "tokens", "words"]


@dataclass(frozen=True)
class Completion:
    """The next answer of a language model, set by a test."""

    text: str | None = None
    """None: a text that shows what was asked."""
    refuses: bool = False
    stop: str = ""
    """The vendor's word for why it ended; empty: in the usual way."""


def completion_text(prompt: str, images: Sequence[bytes] = (), schema: Mapping[str, Any] | None = None) -> str:
    """The prompt and the first digits of each image's SHA-256, or JSON that fits a schema."""
    if schema is not None:
        return json.dumps(example_of(schema, prompt))
    seen = "".join(f" [image {hashlib.sha256(one).hexdigest()[:8]}]" for one in images)
    return f"You asked: {prompt}{seen}"


def example_of(schema: Mapping[str, Any], prompt: str = "") -> Any:
    """The smallest value that fits a JSON schema of the kinds that vendors take; its first words show the prompt."""
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], prompt)
    kind = schema.get("type", "object")
    match str(kind[0] if isinstance(kind, list) else kind).lower():
        case "object":
            return {name: example_of(one, prompt) for name, one in schema.get("properties", {}).items()}
        case "array":
            return [example_of(schema.get("items", {"type": "string"}), prompt)] * schema.get("minItems", 1)
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return f"You asked: {prompt}"


def words(text: str) -> list[str]:
    """The pieces in which a text is streamed; together they are the text."""
    return [one for one in text.replace(" ", " \0").split("\0") if one] or [""]


def tokens(text: str) -> int:
    """About how many tokens a text has: four characters each."""
    return max(1, len(text) // 4)
