"""The one serializer of events: SQL that makes the JSON of an event of a row.

What the log keeps and what webhooks carry is read from the changed rows by the statement that changed them. The fields
are those of the event's model in `compute.schemas.events`, each from the column of its name unless something else is
given for it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import get_args

from compute.db.tables.base import Base
from compute.schemas.events import BaseEvent

__all__ = ["payload"]

_UTC = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def payload(event: type[BaseEvent], table: type[Base], row: str, given: Mapping[str, str]) -> str:
    """The JSON object of an `event` as an expression.

    Args:
        event: What it holds.
        table: Whose columns `row` has.
        row: The name of the row in the statement.
        given: Expressions for fields that are not the column of their name. A field with neither is null.

    Raises:
        ValueError: the event has no such field, or needs one that the table has no column for.
    """
    fields = event.model_fields
    if unknown := given.keys() - fields.keys():
        raise ValueError(f"{event.__name__} has no {', '.join(sorted(unknown))}")
    members = []
    for name, field in fields.items():
        if name in given or name in table.__table__.columns:
            value = given.get(name, f"{row}.{name}")
            is_time = field.annotation is datetime or datetime in get_args(field.annotation)
            members.append(f"'{name}', {_UTC.format(value) if is_time else value}")
        elif field.is_required():
            raise ValueError(f"{table.__tablename__} has no column for {event.__name__}.{name}")
        else:
            members.append(f"'{name}', NULL")
    return f"jsonb_build_object({', '.join(members)})"
