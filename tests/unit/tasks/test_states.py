from itertools import product

from compute.schemas.enums import TaskStatus
from compute.tasks.states import LEASED, TERMINAL, TRANSITIONS, can_move, sources


def test_sources_is_the_table_read_backwards() -> None:
    for source, target in product(TaskStatus, TaskStatus):
        assert can_move(source, target) == (source in sources(target)) == (target in TRANSITIONS[source])


def test_every_status_can_be_reached_and_every_life_can_end() -> None:
    reached, frontier = {TaskStatus.PENDING}, [TaskStatus.PENDING]
    while frontier:
        for target in TRANSITIONS[frontier.pop()] - reached:
            reached.add(target)
            frontier.append(target)
    assert reached == set(TaskStatus)
    for status in set(TaskStatus) - TERMINAL:
        assert TaskStatus.FAILED in TRANSITIONS[status]
        assert TaskStatus.CANCELLED in TRANSITIONS[status]


def test_only_a_leased_task_goes_back_to_pending() -> None:
    assert set(sources(TaskStatus.PENDING)) == LEASED


def test_processing_is_read_as_executing() -> None:
    assert TaskStatus("PROCESSING") is TaskStatus.EXECUTING
