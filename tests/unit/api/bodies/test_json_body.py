"""JSON bodies are read as they are written, or refused with their location; and never much of them."""

import json
import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.api.bodies.json_body import MAX_VALUES, parsed
from compute.errors import InvalidFields, InvalidInput


def loc_of_fault(content: bytes) -> list[Any]:
    with pytest.raises(InvalidFields) as refused:
        parsed(content)
    return list(refused.value.faults[0]["loc"])


@pytest.mark.parametrize(
    ("content", "loc"),
    [
        (b'{"a": 1, "a": 1}', ["body", "a"]),
        (b'{"a": [{"b": 1}, {"b": 1, "c": 2, "b": 3}]}', ["body", "a", 1, "b"]),
        (b'{"a": {"\\u0062": 1, "b": 2}}', ["body", "a", "b"]),
        (b'{"a": NaN}', ["body", "a"]),
        (b'{"a": [-Infinity]}', ["body", "a", 0]),
        (b'{"a": 1e999999}', ["body", "a"]),
        (b'{"a": -1e400}', ["body", "a"]),
        (b'{"a": 1e-400}', ["body", "a"]),
        (b'{"a": ' + b"9" * 5000 + b"}", ["body", "a"]),
        (b'{"a": 0.' + b"9" * 5000 + b"}", ["body", "a"]),
        (b'{"a": "\\u0000"}', ["body", "a"]),
        (b'{"a": {"b": ["\\ud800"]}}', ["body", "a", "b", 0]),
        (b'{"a": {"\\udc00": 1}}', ["body", "a"]),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", ["body", "a"]),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_place(content: bytes, loc: list[Any]) -> None:
    assert loc_of_fault(content) == loc


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"1", b"{", b"{'a': 1}", b'{"a": 01}', b'{"a": +1}', b'{"a": 1,}', b'{"a": "\n"}', b'{"a": "\xff"}',
     b'{"a": "\xed\xa0\x80"}', '{"a": 1}'.encode("utf-16"), b"\xef\xbb\xbf{}", b'{"a":' + b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput):
        parsed(content)


@pytest.mark.parametrize("value", ["1e22", "-0.0", "1.0", "1", "0.1", "0e5", "-0", "18446744073709551617", "5e-324"])
def test_a_number_is_read_as_it_is_written(value: str) -> None:
    read = parsed(b'{"a": %s}' % value.encode())["a"]
    assert read == json.loads(value)
    assert type(read) is type(json.loads(value))
    assert math.copysign(1, read) == math.copysign(1, json.loads(value))


@given(st.dictionaries(st.text().filter(lambda text: "\x00" not in text), st.integers() | st.booleans() | st.none()))
def test_what_is_fine_is_not_changed(body: dict[str, Any]) -> None:
    assert parsed(json.dumps(body).encode()) == body
    assert list(parsed(json.dumps(body, ensure_ascii=False).encode())) == list(body)


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": [' + b"[]," * 700_000 + b"[]]}",
        b'{"a": [' + b'"",' * 700_000 + b'""]}',
        b'{"a": "' + b"\\n" * 3_000_000 + b'"}',
        b'{"a": [' + b"1," * MAX_VALUES + b"1]}",
        b'{"a": "x\\\\", "b": [' + b"1," * MAX_VALUES + b"1]}",
    ],
)
def test_too_much_json_is_refused_before_it_takes_memory(content: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(InvalidInput, match="more than"):
        parsed(content)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**20


@pytest.mark.parametrize(
    "text", ["x" * 4_000_000, ", [{" * 500_000, '\\", ' * 1000 + "," * 2 * MAX_VALUES, "\\\\" * 1000 + "," * MAX_VALUES]
)
def test_one_long_text_is_one_value(text: str) -> None:
    assert list(parsed(f'{{"a": "{text}", "b": [1, 2]}}'.encode())) == ["a", "b"]


def test_a_thousand_tasks_are_not_too_much() -> None:
    task = {f"field {number}": "a, b and [c]" for number in range(45)}
    assert len(parsed(json.dumps({"tasks": [task] * 1000}).encode())["tasks"]) == 1000
