"""Task ids are valid UUIDs of version 7, in the order in which they were made."""

import time
import uuid

from compute.tasks.ids import new_task_id


def test_an_id_is_a_uuid_of_version_7() -> None:
    for task_id in (new_task_id() for _ in range(1000)):
        assert (task_id.version, task_id.variant) == (7, uuid.RFC_4122)


def test_ids_of_later_milliseconds_are_larger() -> None:
    made = []
    for _ in range(20):
        made.append(new_task_id())
        time.sleep(0.002)
    assert made == sorted(made)


def test_ids_of_one_millisecond_differ() -> None:
    assert len({new_task_id() for _ in range(10_000)}) == 10_000


def test_an_id_starts_with_the_time_it_was_made() -> None:
    before = time.time()
    made_at = (new_task_id().int >> 80) / 1000
    # In whole milliseconds.
    assert before - 0.001 <= made_at <= time.time()
