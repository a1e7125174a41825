"""The lives of workflows and of their steps."""

from compute.schemas.enums import StepStatus, WorkflowStatus
from compute.workflows.states import (
    ENDED_STEPS,
    ENDED_WORKFLOWS,
    OPEN_WORKFLOWS,
    STEP_TRANSITIONS,
    WORKFLOW_TRANSITIONS,
)


def test_both_tables_know_every_status_and_no_status_follows_itself() -> None:
    assert WORKFLOW_TRANSITIONS.keys() == set(WorkflowStatus)
    assert STEP_TRANSITIONS.keys() == set(StepStatus)
    assert all(status not in after for status, after in WORKFLOW_TRANSITIONS.items())
    assert all(status not in after for status, after in STEP_TRANSITIONS.items())


def test_a_workflow_waits_is_open_or_has_ended() -> None:
    assert {WorkflowStatus.PENDING} | OPEN_WORKFLOWS | ENDED_WORKFLOWS == set(WorkflowStatus)
    assert not OPEN_WORKFLOWS & ENDED_WORKFLOWS


def test_a_cancelled_workflow_stays_cancelled() -> None:
    assert WORKFLOW_TRANSITIONS[WorkflowStatus.CANCELLED] == frozenset()


def test_every_workflow_that_has_not_ended_can_be_cancelled() -> None:
    for status in set(WorkflowStatus) - ENDED_WORKFLOWS:
        assert WorkflowStatus.CANCELLED in WORKFLOW_TRANSITIONS[status]


def test_another_run_is_all_that_can_follow_an_end() -> None:
    for status in ENDED_WORKFLOWS - {WorkflowStatus.CANCELLED}:
        assert WORKFLOW_TRANSITIONS[status] == {WorkflowStatus.RUNNING}


def test_a_workflow_fails_or_completes_only_while_it_runs() -> None:
    for end in (WorkflowStatus.FAILED, WorkflowStatus.COMPLETED):
        assert [status for status, after in WORKFLOW_TRANSITIONS.items() if end in after] == [WorkflowStatus.RUNNING]


def test_a_running_step_never_goes_back_and_is_never_skipped() -> None:
    """Its tasks exist; a second set of them would do the work twice."""
    assert STEP_TRANSITIONS[StepStatus.RUNNING] == ENDED_STEPS - {StepStatus.SKIPPED}


def test_a_step_that_has_ended_can_only_be_put_back() -> None:
    assert set(StepStatus) - ENDED_STEPS == {StepStatus.PENDING, StepStatus.RUNNING}
    for status in ENDED_STEPS:
        assert STEP_TRANSITIONS[status] == {StepStatus.PENDING}


def test_a_step_that_waits_may_run_or_end_in_any_way() -> None:
    assert STEP_TRANSITIONS[StepStatus.PENDING] == {StepStatus.RUNNING} | ENDED_STEPS
