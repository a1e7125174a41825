"""What the Dispatcher needs of a pool of workers. Ray implements it; so does a test, in a few lines."""

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
        """What runs the jobs, as the row's `executor_type` shows it."""
        ...

    def capacity(self) -> int:
        """How many jobs to hold now: one for every free hand and a small reserve. 0 while nobody is ready."""
        ...

    def ready(self) -> int:
        """How many workers are warm."""
        ...

    def run(self, job: Job) -> AsyncGenerator[WorkEvent]:
        """Run one job. Closing the iterator stops the work at its next step."""
        ...
