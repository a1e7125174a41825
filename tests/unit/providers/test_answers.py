"""Reading of vendors' answers, whatever they are."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.providers.calls.answers import count_of, counts_of, json_of, plain_id, total, vendor_id_of
from compute.providers.calls.http import HttpRequest, HttpResponse
from compute.providers.calls.outcomes import OutcomeUnknownError
from compute.providers.calls.storable import storable

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    "odd", [math.nan, math.inf, -math.inf, -1, -0.5, 10**400, "many", "7", [1], {}, None, True, 1e300]
)
def test_what_is_no_amount_is_left_out(odd: Any) -> None:
    assert count_of(odd) is None
    assert counts_of({"input_tokens": odd, "output_tokens": 3}) == {"output_tokens": 3.0}
    assert total([odd, 4, odd]) == 4.0
    assert total([odd]) is None


@given(ANYTHING)
def test_an_amount_is_finite_and_not_negative(value: Any) -> None:
    count = count_of(value)
    assert count is None or (math.isfinite(count) and count >= 0)


@pytest.mark.parametrize(
    "text", [None, b"", b"<html>", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"[" * 500 + b"]" * 500, b"1" * 5000]
)
def test_what_is_no_json_is_none(text: bytes | None) -> None:
    assert json_of(text) is None


def test_an_answer_that_is_read_can_be_walked() -> None:
    deep: Any = "red"
    for _ in range(90):
        deep = {"a": [deep]} if isinstance(deep, str) else {"a": deep}
    assert storable(json_of(json.dumps(deep))) == deep


@given(st.text(min_size=1) | st.just("\ud800\x00"))
def test_an_id_of_the_log_can_be_stored(text: str) -> None:
    told = plain_id(text)
    assert told is not None
    assert len(told) <= 256
    assert "\x00" not in told
    assert told.encode()


@pytest.mark.parametrize("headers", [{}, {"x-request-id": ""}])
def test_an_answer_without_an_id_has_none(headers: dict[str, str]) -> None:
    assert HttpResponse(200, headers, b"").request_id is None


def test_the_next_header_is_asked_for_the_id() -> None:
    answer = HttpResponse(200, {"x-fal-request-id": "", "x-request-id": "r\udcff" + "1" * 1000}, b"")
    assert answer.request_id == ("r?" + "1" * 1000)[:256]


@pytest.mark.parametrize("odd", ["a\x00b", "a\ud800", "a\nb", "\x7f", "x" * 300, ".", ".."])
def test_an_id_that_nobody_can_ask_by_leaves_the_outcome_unknown(odd: str) -> None:
    with pytest.raises(OutcomeUnknownError, match="cannot be used"):
        vendor_id_of("fal", odd)


@pytest.mark.parametrize("id_", ["764cabcf-b745", "a b", "../../x", "ünïcode", "a/b?c#d", "x" * 256])
def test_any_other_id_is_kept_as_it_came(id_: str) -> None:
    assert vendor_id_of("fal", id_) == id_


def test_keys_are_left_out_of_what_an_answer_says() -> None:
    request = HttpRequest("GET", "http://127.0.0.1", {"Authorization": "Key the-id:the/secret/part"})
    said = b'{"a": "the-id:the/secret/part", "b": "the\\/secret\\/part", "c": "part"}'
    answer = HttpResponse(403, {"x-request-id": "the/secret/part"}, said).without(request.secrets)
    assert json.loads(answer.body) == {"a": "***", "b": "***", "c": "part"}
    assert answer.request_id == "***"
