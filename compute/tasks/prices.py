"""Costs of units, by the price table of the settings."""

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from fnmatch import fnmatchcase
from typing import Any

from compute.settings.providers import PriceRule

__all__ = ["LOCAL_VENDOR", "PriceTable", "gpu_seconds_of"]

LOCAL_VENDOR = "local"
"""The vendor of what this cluster does itself."""
_UNITS: Mapping[str, tuple[str, int]] = {
    "call": ("calls", 1),
    "image": ("images", 1),
    "megapixel": ("megapixels", 1),
    "1k_input_tokens": ("input_tokens", 1000),
    "1k_output_tokens": ("output_tokens", 1000),
    "second": ("seconds", 1),
    "credit": ("credits", 1),
    "gpu_second": ("gpu_seconds", 1),
}
_DIGITS = Decimal("0.000001")


class PriceTable:
    """Prices. Of several rules for one unit the first that fits counts; different units add up.

    Example:
        rule = PriceRule(vendor="fal", endpoint="*flux/dev", per="megapixel", amount=Decimal("0.025"))
        PriceTable([rule]).amount("fal", "queue.fal.run/fal-ai/flux/dev", None, {"megapixels": 2.0})  # Decimal("0.05")
    """

    def __init__(self, rules: Sequence[PriceRule] = ()) -> None:
        self._rules = tuple(rules)

    def amount(self, vendor: str, endpoint: str, model: str | None, units: Mapping[str, float]) -> Decimal | None:
        """What these units cost; None where no rule says."""
        total: Decimal | None = None
        priced: set[str] = set()
        for rule in self._rules:
            unit, size = _UNITS[rule.per]
            if unit in priced or unit not in units or not _fits(rule, vendor, endpoint, model or ""):
                continue
            priced.add(unit)
            total = (total or Decimal()) + rule.amount * Decimal(str(units[unit])) / size
        return None if total is None else total.quantize(_DIGITS, ROUND_HALF_EVEN)

    def local_amount(self, result: Mapping[str, Any]) -> Decimal | None:
        """What a task's run on this cluster has cost, by its result; None if no model worked, or has no price."""
        metadata = result.get("metadata") or {}
        model = metadata.get("model")
        units = {"gpu_seconds": seconds} if (seconds := gpu_seconds_of(result)) else {}
        return self.amount(LOCAL_VENDOR, "", model if isinstance(model, str) else None, units)


def gpu_seconds_of(result: Mapping[str, Any]) -> float:
    """For how long a model of this cluster has worked for a task, by its result."""
    timings = (result.get("metadata") or {}).get("timings")
    spent = timings.get("draw_ms") if isinstance(timings, dict) else None
    return spent / 1000 if isinstance(spent, int | float) and spent > 0 else 0.0


def _fits(rule: PriceRule, vendor: str, endpoint: str, model: str) -> bool:
    return rule.vendor == vendor and fnmatchcase(endpoint, rule.endpoint) and fnmatchcase(model, rule.model)
