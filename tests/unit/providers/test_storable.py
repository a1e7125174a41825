"""Answers of vendors in a form that can be stored, whatever they are."""

import json
from typing import Any

import pytest

from compute.providers.calls.storable import storable


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ("red", "red"),
        ("red\x00 coat", "red coat"),
        ("half \ud83d of it", "half ? of it"),
        ("\U0001f9e5", "\U0001f9e5"),
        (
            {"a\x00": ["b\x00", {"c": float("nan")}, float("inf"), 1.5, True, None]},
            {"a": ["b", {"c": None}, None, 1.5, True, None]},
        ),
        ((1, "\x00"), [1, ""]),
        (None, None),
    ],
)
def test_only_what_the_database_refuses_is_left_out(said: Any, stored: Any) -> None:
    assert storable(said) == stored
    json.dumps(stored, allow_nan=False, ensure_ascii=False).encode()
