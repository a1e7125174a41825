"""The receivers that get a request next."""

import random

from compute.webhooks.queue import DueReceivers
from compute.webhooks.receivers import Breaker, Receivers
from compute.webhooks.retry import ReceiverHealth

EXACT = Breaker(failures=1, first=10, factor=1, jitter=0)


def make(in_flight: int = 16, most: int = 8) -> tuple[Receivers, DueReceivers]:
    known = Receivers(most, EXACT, random.Random(1))
    return known, DueReceivers(known, in_flight)


def prove(known: Receivers, *names: str, times: int = 3) -> None:
    for name in names:
        for _ in range(times):
            known.finished(known.started(name, 0), ReceiverHealth.WELL, 0)


def test_a_proven_receiver_gets_all_its_room() -> None:
    known, due = make()
    prove(known, "a")
    due.add(["a"], 0)
    assert due.allocate(16, 0) == {"a": 8}


def test_what_is_free_is_shared_in_rounds() -> None:
    known, due = make()
    prove(known, "a", "b")
    due.add(["a", "b", "new"], 0)
    # Two of the sixteen stay free for receivers that have none.
    assert due.allocate(8, 0) == {"new": 1, "a": 3, "b": 2}


def test_who_was_served_waits_behind_the_others() -> None:
    known, due = make()
    prove(known, "a", "b", "c")
    due.add(["a", "b", "c"], 0)
    assert [due.allocate(1, 0) for _ in range(4)] == [{"a": 1}, {"b": 1}, {"c": 1}, {"a": 1}]


def test_strangers_that_hang_hold_half_of_it() -> None:
    known, due = make(in_flight=16)
    strangers = [f"stranger-{number}" for number in range(100)]
    prove(known, "a")
    due.add([*strangers, "a"], 0)
    dealt = due.allocate(16, 0)
    assert dealt == dict.fromkeys(strangers[:8], 1) | {"a": 6}
    for name in dealt:
        known.started(name, 0)
    # Half of it is theirs, however much is free.
    assert set(due.allocate(16, 0)) == {"a"}


def test_proven_ones_that_hang_leave_an_eighth_to_those_that_have_no_request() -> None:
    known, due = make(in_flight=16, most=8)
    prove(known, "a", "b")
    due.add(["a", "b"], 0)
    dealt = due.allocate(16, 0)
    assert dealt == {"a": 7, "b": 7}
    for name, count in dealt.items():
        for _ in range(count):
            known.started(name, 0)
    prove(known, "c")
    due.add(["c", "new"], 0)
    assert due.allocate(2, 0) == {"new": 1, "c": 1}


def test_those_that_are_probed_hold_a_quarter_of_it() -> None:
    known, due = make(in_flight=16)
    dead = [f"dead-{number}" for number in range(100)]
    for name in dead:
        known.finished(known.started(name, 0), ReceiverHealth.UNWELL, 0)
    due.add(dead, 0)
    assert due.allocate(16, 0) == {}
    due.add(dead, 10)
    assert due.allocate(16, 10) == dict.fromkeys(dead[:4], 1)


def test_one_that_falls_while_it_waits_gets_nothing() -> None:
    known, due = make()
    due.add(["a"], 0)
    known.finished(known.started("a", 0), ReceiverHealth.UNWELL, 0)
    assert due.allocate(16, 0) == {}
    # The next look finds it again.
    assert due.allocate(16, 10) == {}
    due.add(["a"], 10)
    assert due.allocate(16, 10) == {"a": 1}


def test_one_that_is_better_known_than_when_it_came_gets_more() -> None:
    known, due = make()
    due.add(["a"], 0)
    prove(known, "a")
    assert due.allocate(16, 0) == {"a": 8}


def test_one_that_has_nothing_due_leaves() -> None:
    known, due = make()
    prove(known, "a")
    due.add(["a", "b"], 0)
    due.remove("a")
    assert due.allocate(16, 0) == {"b": 1}


def test_even_one_request_at_a_time_reaches_everybody() -> None:
    known, due = make(in_flight=1)
    prove(known, "proven")
    known.finished(known.started("dead", 0), ReceiverHealth.UNWELL, 0)
    due.add(["proven", "new", "dead"], 10)
    served: list[str] = []
    for _ in range(3):
        [name] = due.allocate(1, 10)
        served.append(name)
        due.remove(name)
    assert sorted(served) == ["dead", "new", "proven"]
