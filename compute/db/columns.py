"""Columns of JSON."""

from typing import Any

from sqlalchemy import JSON
from sqlalchemy.dialects.postgresql import JSONB

__all__ = ["AS_SENT", "Jsonb"]


class _Replaced:
    """A JSON column that is written whenever it is assigned, for Python's `==` takes 1, 1.0 and true for the same."""

    def compare_values(self, x: Any, y: Any) -> bool:
        return x is y


class _Json(_Replaced, JSON):
    """Comes back as it is, unlike jsonb: numbers with all their digits and signs, keys in their order."""


class Jsonb(_Replaced, JSONB):
    """Its parts can be asked for."""


AS_SENT = _Json(none_as_null=True)
