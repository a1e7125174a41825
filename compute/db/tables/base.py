"""The base class of all rows, and the types of their columns."""

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Text, func
from sqlalchemy.orm import DeclarativeBase

from compute.db.columns import Jsonb

__all__ = ["NOW", "Base"]


NOW = func.now()


class Base(DeclarativeBase):
    type_annotation_map = {
        datetime: DateTime(timezone=True),
        dict[str, Any]: Jsonb,
        list[Any]: Jsonb,
        str: Text,
    }
