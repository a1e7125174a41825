"""Long texts come out as any JSON reader reads them, wherever they are cut."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.api.bodies.json_body import parsed
from compute.errors import InvalidInput

MIB = 2**20
MOST_ESCAPES = 2_000_000
"""Of one body."""
UNITS = st.sampled_from(["a", "é", "好", "😀", '"', "\\", "/", "\n", "😀" * 5, "\\\\\\", "x" * 4095])


@settings(max_examples=8)
@given(st.lists(UNITS, min_size=1, max_size=8), st.integers(MIB - 20, MIB + 20), st.booleans())
def test_a_long_text_is_what_was_sent(units: list[str], size: int, ascii_only: bool) -> None:
    unit = "".join(units)
    text = "b" * (size % 13) + unit * (2 * size // len(unit.encode()) + 1)
    body = {"a": text, "b": [{"c": text[:300_000], "d": "short"}], "e": 1.5}
    while json.dumps(body, ensure_ascii=ascii_only).count("\\") > MOST_ESCAPES:
        text = text[: len(text) // 2]
        body = {"a": text, "b": [{"c": text[:300_000], "d": "short"}], "e": 1.5}
    assert parsed(json.dumps(body, ensure_ascii=ascii_only).encode()) == body


@pytest.mark.parametrize("wrong", ["\\x", "\n", "\\u12", "\x01"])
@pytest.mark.parametrize("at", [10, MIB - 1, MIB, MIB + 1, 2 * MIB + 77])
def test_what_is_wrong_in_a_long_text_is_refused_at_its_place(wrong: str, at: int) -> None:
    text = f'{{"a": "{"x" * at}{wrong}{"y" * MIB}"}}'
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(text)
    with pytest.raises(InvalidInput) as refused:
        parsed(text.encode())
    assert refused.value.detail == f"This is not JSON: {expected.value.msg} at character {expected.value.pos}."


def test_what_is_wrong_behind_a_long_text_is_refused_at_its_place() -> None:
    text = f'{{"a": "{"x" * MIB}", "b": "{"y" * MIB}", ]'
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(text)
    with pytest.raises(InvalidInput, match=f"at character {expected.value.pos}"):
        parsed(text.encode())


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "a" * MIB + "\x00", "a" * MIB + "\udc00" + "b" * MIB])
def test_what_cannot_be_kept_is_found_in_long_texts_too(text: str) -> None:
    with pytest.raises(Exception, match=r"NUL|Unicode"):
        parsed(json.dumps({"a": text}).encode())


def test_a_long_name_is_read_and_found_twice() -> None:
    name = "k" * (MIB + 1)
    assert parsed(json.dumps({name: 1}).encode()) == {name: 1}
    with pytest.raises(Exception, match="more than once"):
        parsed(f'{{"{name}": 1, "{name}": 2}}'.encode())
