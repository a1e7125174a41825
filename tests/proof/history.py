"""What clients, receivers and workers saw of tasks, and whether it keeps the promises.

Whoever sees something notes it: the simulation, the stateful test, the tests that kill processes of a real cluster. No
table is read for it, so that it holds for every form of the store. `faults` is the list of broken promises; a new
promise is one more function in `tests.proof.promises`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

__all__ = [
    "Accepted",
    "Began",
    "Cancelled",
    "Deleted",
    "Fact",
    "History",
    "Logged",
    "Published",
    "Received",
    "Seen",
    "StepSeen",
    "WorkflowSeen",
]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something about one task. `at`: when it was known, in seconds of any one clock."""

    at: float
    task: str


@dataclass(frozen=True, kw_only=True)
class Accepted(Fact):
    """A client was told that this task is stored."""

    webhook: bool = False


@dataclass(frozen=True, kw_only=True)
class Seen(Fact):
    """An answer that shows the task. `asked`: when it was asked for; `attempt` tells one attempt from the next, if it
    is known; `outputs` are paths."""

    asked: float
    status: str
    progress: float = 0.0
    retries: int = 0
    attempt: object = None
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepSeen:
    status: str
    task_ids: tuple[str, ...]
    parents: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class WorkflowSeen(Fact):
    """A workflow as it was at this moment; `steps` by their names."""

    status: str
    steps: dict[str, StepSeen]


@dataclass(frozen=True, kw_only=True)
class Cancelled(Fact):
    """A client was told that the task is cancelled."""


@dataclass(frozen=True, kw_only=True)
class Deleted(Fact):
    """A client was told that the task is removed."""


@dataclass(frozen=True, kw_only=True)
class Began(Fact):
    """A worker drew for this attempt: its start, or one more step."""

    fence: int
    step: int = 0


@dataclass(frozen=True, kw_only=True)
class Published(Fact):
    """A worker put a result at `path`."""

    fence: int
    path: str


@dataclass(frozen=True, kw_only=True)
class Received(Fact):
    """A receiver got a webhook, whether or not its answer arrived."""

    message: str
    status: str


@dataclass(frozen=True, kw_only=True)
class Logged(Fact):
    """The statuses that the task's events show, in their order."""

    moves: tuple[str, ...]


@dataclass
class History:
    """`grace`: seconds that a worker may take to hear of a cancel. `complete`: everything had the time it needs, so
    what has not happened will not. `workers_seen`: each attempt that began is in it. `mild`: nothing went wrong that
    could cost an attempt."""

    grace: float = 30.0
    complete: bool = False
    workers_seen: bool = False
    mild: bool = False
    facts: list[Fact] = field(default_factory=list)

    def note(self, fact: Fact) -> None:
        self.facts.append(fact)

    def lives(self) -> Iterator["Life"]:
        """One a task, in the order in which they were heard of."""
        tasks: dict[str, list[Fact]] = {}
        for fact in self.facts:
            tasks.setdefault(fact.task, []).append(fact)
        for task, facts in tasks.items():
            yield Life(task, sorted(facts, key=lambda fact: fact.at), self)

    def faults(self) -> list[str]:
        """Which promises were broken, in words."""
        from tests.proof.promises import PROMISES
        from tests.proof.workflow_promises import WORKFLOW_PROMISES

        return [
            f"{promise.__name__}: task {life.task}: {fault}"
            for life in self.lives()
            for promise in (*PROMISES, *WORKFLOW_PROMISES)
            for fault in promise(life)
        ]


@dataclass(frozen=True)
class Life:
    """All that was seen of one task, in the order of time."""

    task: str
    facts: Sequence[Fact]
    history: History

    def accepted(self) -> Accepted | None:
        return next((fact for fact in self.facts if isinstance(fact, Accepted)), None)

    def seen(self) -> list[Seen]:
        return [fact for fact in self.facts if isinstance(fact, Seen)]

    def flows(self) -> list[WorkflowSeen]:
        return [fact for fact in self.facts if isinstance(fact, WorkflowSeen)]

    def cancelled_at(self) -> float | None:
        return next((fact.at for fact in self.facts if isinstance(fact, Cancelled)), None)

    def deleted(self) -> bool:
        return any(isinstance(fact, Deleted) for fact in self.facts)

    def began(self) -> list[Began]:
        return [fact for fact in self.facts if isinstance(fact, Began)]

    def published(self) -> list[Published]:
        return [fact for fact in self.facts if isinstance(fact, Published)]

    def received(self) -> list[Received]:
        return [fact for fact in self.facts if isinstance(fact, Received)]

    def logged(self) -> list[Logged]:
        return [fact for fact in self.facts if isinstance(fact, Logged)]

    def ends(self, ended: Iterable[str]) -> list[str]:
        """The ends that anybody was told of, in the order in which they were."""
        told = [fact.status for fact in self.facts if isinstance(fact, Seen | Received)]
        if self.cancelled_at() is not None:
            told.append("CANCELLED")
        return list(dict.fromkeys(status for status in told if status in ended))
