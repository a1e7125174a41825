"""Fields of requests on the command line: KEY=VALUE pairs and files. Heavy modules are imported inside functions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from compute.client import Compute

__all__ = ["Body", "Fields", "fields_of", "image_of", "object_of", "pairs_of", "strict_json", "value_of"]

Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="A field of the request: JSON, else text; @FILE uploads an image."
    ),
]
Body = Annotated[
    Path | None, typer.Option("--body", help="A YAML or JSON file with fields; --set overrides them.", dir_okay=False)
]


def fields_of(client: "Compute", body: Path | None, given: Sequence[str] | None) -> dict[str, Any]:
    """The fields of a request from a file and from the command line, which overrides the file."""
    found = object_of(body) if body is not None else {}
    for name, value in pairs_of(given or [], hint="--set").items():
        found[name] = value_of(client, value)
    return found


def pairs_of(given: Sequence[str], *, hint: str) -> dict[str, str]:
    """The pairs by their keys.

    Raises:
        BadParameter: one is no pair, or a key comes twice.
    """
    pairs: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not name or not equals or name in pairs:
            raise typer.BadParameter(f"`{pair}` is not KEY=VALUE, or its key is given twice.", param_hint=hint)
        pairs[name] = value
    return pairs


def value_of(client: "Compute", text: str) -> Any:
    """The value of a pair: the storage path of an image that is uploaded, JSON, or else the text itself."""
    if text.startswith("@"):
        return _uploaded(client, Path(text[1:]))
    try:
        return strict_json(text)
    except ValueError:
        return text


def strict_json(text: str) -> Any:
    """The value of a text in JSON, which can be sent as JSON again.

    Raises:
        ValueError: it is none, or holds NaN, an infinity, or half of a surrogate pair.
    """
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError as error:
        raise ValueError("the value is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("a text is not valid Unicode") from error
    return found


def image_of(client: "Compute", text: str) -> str:
    """An image as a request names it: a file of this machine is uploaded, anything else stays as it is."""
    try:
        is_file = Path(text).is_file()
    except OSError:
        # An address may be longer than a file's name.
        is_file = False
    return _uploaded(client, Path(text)) if is_file else text


def object_of(file: Path) -> dict[str, Any]:
    """Read the one object in a YAML or JSON file, with JSON's types only.

    Raises:
        StackError: the file cannot be read, or holds something else.
    """
    import yaml

    from compute.stack.errors import StackError

    try:
        text = file.read_text(encoding="utf-8")
        found = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
        # YAML also has dates, and keys that are not strings.
        found = strict_json(json.dumps(found, default=str, allow_nan=False))
    except OSError as error:
        raise StackError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise StackError(f"{file} is neither YAML nor JSON: {error}") from error
    if not isinstance(found, Mapping):
        raise StackError(f"{file} must hold one object with names and values")
    return dict(found)


def _uploaded(client: "Compute", file: Path) -> str:
    from compute.stack.errors import StackError

    try:
        return str(client.files.upload(file).path)
    except OSError as error:
        raise StackError(f"{file} cannot be read: {error.strerror}") from error
