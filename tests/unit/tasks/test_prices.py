"""The price table."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from compute.settings import Settings
from compute.settings.providers import PriceRule
from compute.tasks.prices import PriceTable, gpu_seconds_of


def rule(vendor: str, per: Any, amount: str, **more: str) -> PriceRule:
    return PriceRule(vendor=vendor, per=per, amount=Decimal(amount), **more)


@pytest.mark.parametrize(
    ("per", "units", "expected"),
    [
        ("call", {"calls": 1.0}, "0.03"),
        ("image", {"images": 4.0}, "0.12"),
        ("megapixel", {"megapixels": 1.048576}, "0.031457"),
        ("1k_input_tokens", {"input_tokens": 1500.0}, "0.045"),
        ("1k_output_tokens", {"output_tokens": 10.0}, "0.0003"),
        ("second", {"seconds": 5.0}, "0.15"),
        ("credit", {"credits": 2.0}, "0.06"),
        ("gpu_second", {"gpu_seconds": 0.1}, "0.003"),
    ],
)
def test_each_unit_has_a_price(per: str, units: dict[str, float], expected: str) -> None:
    assert PriceTable([rule("fal", per, "0.03")]).amount("fal", "x", None, units) == Decimal(expected)


def test_the_first_price_for_a_unit_counts_and_units_add_up() -> None:
    table = PriceTable(
        [
            rule("fal", "image", "1", endpoint="*flux/dev"),
            rule("fal", "image", "5"),
            rule("fal", "call", "0.1"),
        ]
    )
    units = {"calls": 1.0, "images": 2.0}
    assert table.amount("fal", "queue.fal.run/fal-ai/flux/dev", None, units) == Decimal("2.1")
    assert table.amount("fal", "queue.fal.run/fal-ai/birefnet", None, units) == Decimal("10.1")
    assert table.amount("fashn", "queue.fal.run/fal-ai/flux/dev", None, units) is None


def test_a_price_may_be_for_a_model() -> None:
    table = PriceTable([rule("openai", "1k_input_tokens", "0.5", model="gpt-5*")])
    assert table.amount("openai", "x", "gpt-5.4-mini", {"input_tokens": 1000.0}) == Decimal("0.5")
    assert table.amount("openai", "x", "gpt-6", {"input_tokens": 1000.0}) is None
    assert table.amount("openai", "x", None, {"input_tokens": 1000.0}) is None


def test_decimals_are_counted_as_written() -> None:
    table = PriceTable([rule("fal", "call", "0.1"), rule("fal", "image", "0.2")])
    assert table.amount("fal", "x", None, {"calls": 1.0, "images": 1.0}) == Decimal("0.3")


@pytest.mark.parametrize(
    ("result", "seconds"),
    [
        ({}, 0.0),
        ({"metadata": None}, 0.0),
        ({"metadata": {"timings": "none"}}, 0.0),
        ({"metadata": {"timings": {"draw_ms": "10"}}}, 0.0),
        ({"metadata": {"timings": {"draw_ms": 1500.0}}}, 1.5),
    ],
)
def test_the_work_of_a_model_here_is_in_the_result(result: dict[str, Any], seconds: float) -> None:
    assert gpu_seconds_of(result) == seconds
    price = PriceTable([rule("local", "gpu_second", "0.001")]).local_amount(result)
    assert price == (Decimal(str(seconds)) / 1000 if seconds else None)


def test_the_table_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().prices == []
    monkeypatch.setenv("COMPUTE_PRICES", '[{"vendor": "fal", "endpoint": "*flux*", "per": "image", "amount": "0.025"}]')
    monkeypatch.setenv("COMPUTE_CURRENCY", "EUR")
    settings = Settings()
    assert settings.prices[0].amount == Decimal("0.025")
    assert settings.currency == "EUR"


@pytest.mark.parametrize(
    "wrong", [{"per": "hour"}, {"amount": "-1"}, {"amount": "NaN"}, {"vendor": ""}, {"currency": "USD"}]
)
def test_a_wrong_price_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        PriceRule.model_validate({"vendor": "fal", "per": "call", "amount": "1"} | wrong)
