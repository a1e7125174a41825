"""A pool of workers, as the Dispatcher needs it. Ray implements it; so does a test, in a few lines."""

from collections.abc import AsyncGenerator
from typing import Protocol

from compute.worker.protocol import Job, WorkEvent

__all__ = ["Pool"]


class Pool(Protocol):
    """Workers that take the jobs of one queue."""

    @property
    def queue(self) -> str: ...

    @property
    def executor_type(self) -> str:
        """The kind of worker that runs the jobs, as the row's `executor_type` shows it."""
        ...

    @property
    def resumes(self) -> bool:
        """Whether a run that loses its worker goes on where it was, so that its task is charged nothing for it."""
        ...

    def capacity(self) -> int:
        """The number of jobs to hold now: one for every free worker and a small reserve; 0 while none is ready."""
        ...

    def ready(self) -> int:
        """The number of warm workers."""
        ...

    def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        """Run one job. Closing the iterator stops the work at its next step."""
        ...
