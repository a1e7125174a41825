"""The SQL that makes an event of a row: every field of the event, and none beside them."""

import pytest

from compute.db.tables import Task
from compute.events.payload import payload
from compute.schemas.events import BaseEvent, TaskCreatedEvent, WorkflowStatusEvent

GIVEN = {"event_type": "'TASK_CREATED'", "task_id": "row.id", "total_steps": "1"}


def test_fields_are_columns_of_their_name_or_what_is_given_and_else_null() -> None:
    made = payload(TaskCreatedEvent, Task, "row", GIVEN)
    for name in TaskCreatedEvent.model_fields:
        assert f"'{name}', " in made
    assert "'task_id', row.id" in made
    assert "'origin_zone', row.origin_zone" in made
    assert "'entity_id', NULL" in made
    assert "'created_at', to_char(row.created_at AT TIME ZONE 'UTC'" in made


def test_a_field_that_the_event_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="TaskCreatedEvent has no colour"):
        payload(TaskCreatedEvent, Task, "row", GIVEN | {"colour": "'red'"})


@pytest.mark.parametrize("event", [BaseEvent, WorkflowStatusEvent])
def test_a_field_that_must_be_there_needs_a_column(event: type[BaseEvent]) -> None:
    with pytest.raises(ValueError, match=f"tasks has no column for {event.__name__}"):
        payload(event, Task, "row", {})
