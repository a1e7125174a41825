"""Rows by their ids."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Uuid, any_, literal

__all__ = ["one_of"]


def one_of(column: Any, ids: Iterable[UUID]) -> ColumnElement[bool]:
    """Whether a column is one of these ids, however many. They go as one value: a statement can have 65,535."""
    known: ColumnElement[bool] = column == any_(literal(list(ids), ARRAY(Uuid())))
    return known
