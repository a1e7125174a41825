"""Each promise is broken by what it forbids, and by that alone."""

import pytest

from tests.proof.history import Accepted, Began, Cancelled, Deleted, Fact, History, Logged, Published, Received, Seen
from tests.proof.promises import PROMISES


def accepted(at: float = 0, *, webhook: bool = False) -> Fact:
    return Accepted(at=at, task="t", webhook=webhook)


def seen(
    at: float, status: str, progress: float = 0.0, retries: int = 0, attempt: int | None = None, outputs: str = ""
) -> Fact:
    paths = (outputs,) if outputs else ()
    done = 100.0 if status == "COMPLETED" else progress
    return Seen(
        at=at, asked=at, task="t", status=status, progress=done, retries=retries, attempt=attempt, outputs=paths
    )


def began(at: float, fence: int = 1) -> Fact:
    return Began(at=at, task="t", fence=fence)


def published(at: float, path: str, fence: int = 1) -> Fact:
    return Published(at=at, task="t", fence=fence, path=path)


def received(at: float, status: str, message: str = "m") -> Fact:
    return Received(at=at, task="t", message=message, status=status)


def logged(*moves: str) -> Fact:
    return Logged(at=99, task="t", moves=moves)


A_GOOD_LIFE = [
    accepted(webhook=True),
    seen(1, "PENDING"),
    began(2),
    seen(3, "EXECUTING", 20.0, attempt=1),
    seen(4, "EXECUTING", 40.0, attempt=1),
    seen(5, "PENDING", retries=1),
    began(6, 2),
    published(7, "p", 2),
    seen(8, "COMPLETED", retries=1, attempt=2, outputs="p"),
    received(9, "COMPLETED"),
    received(10, "COMPLETED"),
    logged("PENDING", "QUEUED", "EXECUTING", "PENDING", "QUEUED", "EXECUTING", "COMPLETED"),
]

BROKEN: dict[str, list[list[Fact]]] = {
    "an_accepted_task_ends": [[accepted()], [accepted(), seen(1, "EXECUTING")]],
    "it_ends_once": [
        [seen(1, "COMPLETED"), received(2, "FAILED")],
        [seen(1, "FAILED"), logged("PENDING", "FAILED", "FAILED")],
    ],
    "an_end_stays": [[seen(1, "FAILED"), seen(2, "PENDING")]],
    "its_events_follow_the_table": [
        [logged("QUEUED")],
        [logged("PENDING", "EXECUTING")],
        [seen(1, "FAILED"), logged("PENDING", "QUEUED")],
    ],
    "progress_never_falls_within_an_attempt": [
        [seen(1, "EXECUTING", 50, attempt=1), seen(2, "EXECUTING", 40, attempt=1)]
    ],
    "a_charge_stays": [[seen(1, "PENDING", retries=1), seen(2, "PENDING")]],
    "only_what_began_is_charged": [[seen(1, "PENDING", retries=1)], [began(1), seen(2, "FAILED", retries=1)]],
    "small_troubles_cost_no_attempt": [[began(1), began(2, 2)]],
    "a_fence_publishes_once": [[published(1, "p"), published(2, "p")]],
    "what_is_shown_was_published": [
        [seen(1, "COMPLETED", outputs="p")],
        [seen(1, "COMPLETED", outputs="p"), published(2, "p")],
    ],
    "the_last_claim_alone_ends_it": [
        [published(1, "p"), began(2, 2), seen(3, "COMPLETED", outputs="p")],
    ],
    "nothing_lives_after_a_cancel": [
        [Cancelled(at=1, task="t"), seen(2, "EXECUTING")],
        [Cancelled(at=1, task="t"), began(100)],
    ],
    "webhooks_arrive_at_least_once": [[accepted(webhook=True), seen(1, "FAILED")]],
    "webhooks_tell_one_end": [[received(1, "FAILED"), received(2, "FAILED", "other")], [received(1, "EXECUTING")]],
}


def broken_promises(facts: list[Fact], *, mild: bool) -> set[str]:
    history = History(complete=True, workers_seen=True, mild=mild, facts=facts)
    return {fault.partition(":")[0] for fault in history.faults()}


def test_a_good_life_breaks_none() -> None:
    assert broken_promises(A_GOOD_LIFE, mild=False) == set()
    assert broken_promises([accepted(), Deleted(at=1, task="t")], mild=True) == set()


@pytest.mark.parametrize("name", BROKEN)
def test_what_a_promise_forbids_breaks_it(name: str) -> None:
    for facts in BROKEN[name]:
        assert name in broken_promises(facts, mild=True)


def test_every_promise_can_be_broken() -> None:
    assert {promise.__name__ for promise in PROMISES} == BROKEN.keys()
