"""The columns of a table that an answer shows."""

from collections.abc import Collection

from pydantic import BaseModel

from compute.db.tables.base import Base

__all__ = ["shown_columns"]


def shown_columns(model: type[BaseModel], table: type[Base], *, but: Collection[str] = ()) -> tuple[str, ...]:
    """The fields of an answer's model that are columns of the table by the same name, except those in `but`."""
    columns = table.__table__.columns
    return tuple(name for name in model.model_fields if name in columns and name not in but)
