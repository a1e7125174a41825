"""The states of a training and all allowed transitions between them.

PENDING        waits for its turn
PREPROCESSING  a job prepares its images; again, if an earlier job was lost
TRAINING       a job changes the weights
COMPLETED      the model is stored
FAILED         it cannot be done, or too many jobs were lost
CANCELLED      ended by a client
"""

from collections.abc import Mapping
from types import MappingProxyType

from compute.schemas.training import TrainingStatus

__all__ = ["ENDED_TRAININGS", "OPEN_TRAININGS", "TRAINING_TRANSITIONS", "sources_of"]

_T = TrainingStatus

TRAINING_TRANSITIONS: Mapping[TrainingStatus, frozenset[TrainingStatus]] = MappingProxyType(
    {
        _T.PENDING: frozenset({_T.PREPROCESSING, _T.FAILED, _T.CANCELLED}),
        _T.PREPROCESSING: frozenset({_T.PREPROCESSING, _T.TRAINING, _T.FAILED, _T.CANCELLED}),
        _T.TRAINING: frozenset({_T.PREPROCESSING, _T.COMPLETED, _T.FAILED, _T.CANCELLED}),
        _T.COMPLETED: frozenset(),
        _T.FAILED: frozenset(),
        _T.CANCELLED: frozenset(),
    }
)

ENDED_TRAININGS = frozenset({_T.COMPLETED, _T.FAILED, _T.CANCELLED})
OPEN_TRAININGS = frozenset(_T) - ENDED_TRAININGS
"""States in which a job may work on the training."""


def sources_of(status: TrainingStatus) -> list[str]:
    """Return the statuses that may become this one, in the order of the enumeration."""
    return [source.value for source in _T if status in TRAINING_TRANSITIONS[source]]
