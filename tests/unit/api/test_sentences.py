"""Sentences of errors, wherever in the code they were written."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import compute
from compute.api.bounded import as_sentence
from compute.api.errors import answer_to
from compute.errors import BadRequest, Conflict, InvalidInput, NotFound
from compute.training.dataset.transforms import parse_transforms

ROOT = Path(compute.__file__).parent
FOR_OPERATORS = {"stack", "deployments", "settings/__init__.py"}
NOT_TOLD = {"ValueError", "debug", "info", "warning", "error", "exception"}
"""What mends the code or its settings hears it."""
REFUSALS = {"BadRequest", "Conflict", "Forbidden", "InvalidInput", "NotFound", "TooLarge", "Unauthorized"}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("the image is damaged or incomplete", "The image is damaged or incomplete."),
        ("made for another model: it has no layer x", "Made for another model: it has no layer x."),
        ("Give it a time.", "Give it a time."),
        ("product_model_path names no LoRA", "product_model_path names no LoRA."),
        ("a/b.png is gone", "a/b.png is gone."),
    ],
)
def test_an_answer_begins_with_a_capital_and_ends_with_a_stop(said: str, told: str) -> None:
    assert as_sentence(said) == told
    for error in (BadRequest(said), Conflict(said), NotFound(said)):
        assert json.loads(bytes(answer_to(error).body))["detail"] == told
    assert json.loads(bytes(answer_to(InvalidInput(said)).body))["detail"][0]["msg"] == told


def messages(folder: Path) -> Iterator[tuple[Path, ast.expr]]:
    """What refusals below a folder say, as it is written there."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in REFUSALS:
                yield path, node.args[0]


def test_no_text_for_a_client_shows_a_representation() -> None:
    """`'name'` is Python's spelling, which only an operator may see."""
    calls = [
        (path, node)
        for path in ROOT.rglob("*.py")
        if path.relative_to(ROOT).parts[0] not in FOR_OPERATORS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] not in NOT_TOLD
    ]
    assert len(calls) > 5_000
    texts = [(path, text) for path, call in calls for text in [*call.args, *(word.value for word in call.keywords)]]
    shown = [
        (path, ast.unparse(text))
        for path, text in texts
        if isinstance(text, ast.JoinedStr)
        and any(isinstance(part, ast.FormattedValue) and part.conversion == ord("r") for part in text.values)
    ]
    assert shown == []


def test_no_answer_of_the_api_has_a_prefix() -> None:
    """`field: ` before a message repeats what the place says."""
    found = list(messages(ROOT / "api"))
    assert len(found) > 40
    for path, said in found:
        if isinstance(said, ast.Constant | ast.JoinedStr):
            text = ast.unparse(said)
            assert text.lstrip("f").strip("'\"")[:1].isupper(), (path, text)


def test_a_fault_of_a_transform_speaks_our_words_and_says_where() -> None:
    for setting, value in (("aspect_ratio", "wide"), ("anchor", "nowhere"), ("bogus", 1)):
        with pytest.raises(InvalidInput) as caught:
            parse_transforms([{"type": "crop", setting: value}])
        assert caught.value.field == f"preprocessing_transforms.0.{setting}"
        assert caught.value.detail.startswith(f"Field `{setting}` ")
        assert "Input should" not in caught.value.detail
