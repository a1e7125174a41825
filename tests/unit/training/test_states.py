"""The life of a training."""

from compute.schemas.training import TrainingStatus
from compute.training.states import ENDED_TRAININGS, OPEN_TRAININGS, TRAINING_TRANSITIONS, sources_of


def test_the_table_knows_every_status_and_a_training_goes_on_or_has_ended() -> None:
    assert TRAINING_TRANSITIONS.keys() == set(TrainingStatus)
    assert set(TrainingStatus) == OPEN_TRAININGS | ENDED_TRAININGS
    assert not OPEN_TRAININGS & ENDED_TRAININGS


def test_an_end_is_for_good() -> None:
    assert all(TRAINING_TRANSITIONS[status] == frozenset() for status in ENDED_TRAININGS)


def test_whatever_goes_on_may_fail_and_be_cancelled() -> None:
    for end in (TrainingStatus.FAILED, TrainingStatus.CANCELLED):
        assert set(sources_of(end)) == {status.value for status in OPEN_TRAININGS}


def test_only_a_job_that_trains_completes_and_another_job_begins_with_the_pictures() -> None:
    assert sources_of(TrainingStatus.COMPLETED) == ["TRAINING"]
    assert sources_of(TrainingStatus.TRAINING) == ["PREPROCESSING"]
    assert sources_of(TrainingStatus.PREPROCESSING) == ["PENDING", "PREPROCESSING", "TRAINING"]
    assert sources_of(TrainingStatus.PENDING) == []
