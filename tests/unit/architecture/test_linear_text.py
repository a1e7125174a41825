"""No text of a user takes time with the square of its length: every pattern, every reader of names and texts, every
text field of every request is given the worst that is known, at two lengths, and the CPU times are compared."""

import ast
import contextlib
import importlib
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers

import compute
from compute.api import dialect
from compute.api.http.conditional import requested_range, unchanged
from compute.errors import ComputeError
from compute.imaging.adjustment.words import read_adjustments
from compute.lora.filenames import folder_of, safe_name, split_name
from compute.media.base64_text import decoded, is_inline, unescaped
from compute.outbound.addresses import literal_address
from compute.schemas.lora import LoRADeleteRequest, UploadForm
from compute.schemas.quickstart.training import QuickstartTrainingCreate
from compute.schemas.quickstart.workflows import QuickstartCreateWorkflow
from compute.schemas.training import TrainingTaskCreate
from compute.schemas.workflows import CreateWorkflow, FieldMapping, StartWorkflow, WorkflowStepDefinition
from compute.storage.base import StoredObject
from compute.storage.paths import clean_path, clean_prefix
from compute.tasks.registry import all_kinds
from compute.training.dataset.captions import clean_caption, read_metadata, words_of_name
from compute.training.dataset.encodings import decode_text
from compute.training.dataset.names import normal_path
from compute.training.request import default_output_name

SHORT = 1_500
FACTOR = 8
WORST = FACTOR * 4
"""Linear work takes about `FACTOR` times as long for a text that much longer, quadratic work 8 times that."""
FLOOR = 2e-4
"""Seconds below which nothing is compared."""

Read = Callable[[str], Any]


PACKAGES = (
    *("api", "requests", "schemas", "storage", "media", "lora", "outbound", "tasks", "worker", "workflows", "imaging"),
    "training/dataset",
)
"""Where text of users is read."""
METHODS = {"match", "fullmatch", "search", "findall", "finditer", "split", "sub", "subn"}
INLINE = {
    "api/openapi/operations.py",  # Names of our own routes.
    "api/training/bodies.py",  # These are read by a reader or a field below.
    "imaging/adjustment/words.py",
    "lora/filenames.py",
    "training/dataset/captions.py",
}
"""Files that use a pattern where they write it."""


def _trees() -> dict[str, ast.Module]:
    root = Path(compute.__file__).parent
    assert all((root / package).is_dir() for package in PACKAGES)
    paths = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    return {path.relative_to(root).as_posix(): ast.parse(path.read_text()) for path in paths}


TREES = _trees()


def _methods(tree: ast.Module, name: str) -> set[str]:
    """The methods by which a module uses the pattern or patterns of this name: `NAME.match(…)`, `each.match(…)`."""
    calls = [
        (call.func.value.id, call.func.attr)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in METHODS
        if isinstance(call.func.value, ast.Name) and call.func.value.id != "re"
    ]
    return {method for used, method in calls if used == name} or {method for _, method in calls} or {"search"}


def _within(value: object) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict):
        yield from _within([*value, *value.values()])
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _within(one)


def _patterns() -> dict[str, tuple[re.Pattern[Any], str]]:
    """The patterns of all modules, each with a method by which it is used."""
    found = {}
    for path, tree in TREES.items():
        if "re.compile(" not in ast.unparse(tree):
            continue
        module = importlib.import_module("compute." + path.removesuffix(".py").replace("/", "."))
        for name, value in vars(module).items():
            for number, pattern in enumerate(_within(value)):
                for method in sorted(_methods(tree, name)):
                    found[f"{path}:{name}[{number}].{method}"] = (pattern, method)
    return found


def _worst(length: int) -> list[str]:
    """Texts on which something or other has been quadratic somewhere."""
    units = ["a", " ", "a  \t", "=", "a/", "a.", "-", "_", '"', ";", "%", "0x1.", "\u0327\u0301", "\ufdfa"]
    texts = [unit * (length // len(unit)) + "!" for unit in units]
    half = length // 2
    return [*texts, "a" * half + " " * half + "!", "a" * half + "=" * half + "!", "data:," + "%4" * half]


def _seconds(read: Read, text: str) -> float:
    begun = time.thread_time()
    # A refusal is an answer, too; what counts is how long it took.
    with contextlib.suppress(ComputeError, ValueError):
        read(text)
    return time.thread_time() - begun


def assert_linear(name: str, read: Read) -> None:
    for short, long in zip(_worst(SHORT), _worst(SHORT * FACTOR), strict=True):
        if _seconds(read, long) < FLOOR * FACTOR:
            continue
        usual = max(min(_seconds(read, short) for _ in range(5)), FLOOR)
        slow = min(_seconds(read, long) for _ in range(3))
        assert slow < WORST * usual, f"{name} takes {slow / usual:.0f} times as long for {short[:20]!r}…{short[-5:]!r}"


def test_the_comparison_tells_quadratic_from_linear() -> None:
    assert_linear("linear", re.compile(r"[a-z]+").fullmatch)
    with pytest.raises(AssertionError, match="times as long"):
        assert_linear("quadratic", re.compile(r"[A-Za-z\s]{64,}={0,2}\s*").fullmatch)


PATTERNS = _patterns()


def _reader(pattern: re.Pattern[Any], method: str) -> Read:
    def read(text: str) -> object:
        written = text.encode() if isinstance(pattern.pattern, bytes) else text
        if method in ("sub", "subn"):
            return getattr(pattern, method)(written[:0], written)
        found = getattr(pattern, method)(written)
        return list(found) if method == "finditer" else found

    return read


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns(name: str) -> None:
    assert_linear(name, _reader(*PATTERNS[name]))


def test_no_pattern_is_written_where_it_is_used() -> None:
    """There it could not be found here."""
    inline = {
        path
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {f"re.{method}" for method in METHODS}
    }
    assert inline == INLINE


STORED = StoredObject("x", 1, "image/png", "x", datetime(2026, 1, 1, tzinfo=UTC))


def _row(text: str) -> bytes:
    return json.dumps({"file_name": "a.png", "text": text}).encode()


READERS: dict[str, Read] = {
    "is_inline": is_inline,
    "decoded": decoded,
    "unescaped": unescaped,
    "clean_path": clean_path,
    "clean_prefix": clean_prefix,
    "safe_name": safe_name,
    "split_name": split_name,
    "folder_of": folder_of,
    "literal_address": literal_address,
    "default_output_name": lambda text: default_output_name(text[:100], dialect.UUID(int=0)),
    "range": lambda text: requested_range(Headers({"range": text}), STORED),
    "range of spaces": lambda text: requested_range(Headers({"range": "bytes=" + text}), STORED),
    "etags": lambda text: unchanged(Headers({"if-none-match": text}), STORED),
    "adjustments": read_adjustments,
    "caption": clean_caption,
    "words of a name": words_of_name,
    "path in an archive": normal_path,
    "text file": lambda text: decode_text(text.encode()),
    "other text file": lambda text: decode_text(text.encode() + b"\x81"),
    "metadata": lambda text: read_metadata(text.encode(), name="m", most=9),
    "caption in metadata": lambda text: read_metadata(_row(text), name="m", most=9),
    "task id": lambda text: dialect._read(text, "task_", "task_id"),
}


@pytest.mark.parametrize("name", READERS)
def test_readers(name: str) -> None:
    assert_linear(name, READERS[name])


def _requests() -> dict[str, type[BaseModel]]:
    models: list[type[BaseModel]] = [kind.create_model for kind in all_kinds().values()]
    models += [kind.update_model for kind in all_kinds().values()]
    models += [TrainingTaskCreate, QuickstartTrainingCreate, CreateWorkflow, QuickstartCreateWorkflow, StartWorkflow]
    models += [WorkflowStepDefinition, FieldMapping, LoRADeleteRequest, UploadForm]
    return {model.__name__: model for model in models}


def _read_field(model: type[BaseModel], field: str, text: str) -> None:
    for value in (text, [text], {text: text}, [{"id": text, "name": text, "type": text}]):
        try:
            model.model_validate({field: value})
        except ValidationError as error:
            error.errors(include_input=False, include_url=False, include_context=False)


@pytest.mark.parametrize("name", _requests())
def test_fields_of_requests(name: str) -> None:
    model = _requests()[name]
    for field in model.model_fields:
        assert_linear(f"{name}.{field}", partial(_read_field, model, field))
