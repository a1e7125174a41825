"""A path that fails while another of its host works is left alone by itself."""

import random
from datetime import UTC, datetime

from compute.webhooks.paths import FailingPaths
from compute.webhooks.queue import DueReceivers
from compute.webhooks.receivers import Breaker, Receivers, ReceiverState
from compute.webhooks.retry import ReceiverHealth
from compute.webhooks.store import Lottery

EXACT = Breaker(failures=3, first=10, factor=2, longest=60, jitter=0)


def receivers(most: int = 8) -> Receivers:
    return Receivers(most, EXACT, random.Random(1))


def answer(known: Receivers, path: str, health: ReceiverHealth, now: float = 0.0, asked: float = 0.0) -> None:
    known.finished(known.started("a", now, path), health, now, asked)


def fail(known: Receivers, path: str, times: int = 1, now: float = 0.0) -> None:
    for _ in range(times):
        answer(known, path, ReceiverHealth.UNWELL, now)


def weights(known: Receivers, now: float, *, may_probe: bool = True) -> dict[str, float | None]:
    lot = known.lottery("a", 8, now, may_probe=may_probe)
    return dict(lot.weights) if lot else {}


def with_one_apart() -> Receivers:
    known = receivers()
    answer(known, "good", ReceiverHealth.WELL)
    fail(known, "bad", 3)
    answer(known, "good", ReceiverHealth.WELL)
    return known


def test_a_host_is_not_closed_for_a_path_that_works() -> None:
    known = receivers()
    answer(known, "good", ReceiverHealth.WELL)
    fail(known, "bad", 3)
    assert known.standing("a", 0) is ReceiverState.UNKNOWN
    assert known.capacity("a", 0) == 1
    assert weights(known, 9.9) == {"bad": None}
    # Its further failures cost the host nothing.
    answer(known, "good", ReceiverHealth.WELL)
    late = [known.started("a", 0, "bad") for _ in range(5)]
    for one in late:
        known.finished(one, ReceiverHealth.UNWELL, 0)
    assert (known.capacity("a", 0), known.standing("a", 0)) == (2, ReceiverState.HEALTHY)


def test_a_path_that_works_later_shows_that_the_host_was_not_to_blame() -> None:
    known = receivers()
    fail(known, "bad", 3)
    assert known.standing("a", 0) is ReceiverState.OPEN
    answer(known, "good", ReceiverHealth.WELL, now=10)
    assert known.standing("a", 10) is ReceiverState.HEALTHY
    assert weights(known, 19.9) == {"bad": None}


def test_a_path_that_is_apart_is_probed_by_itself_and_its_pauses_grow() -> None:
    known = with_one_apart()
    now, pauses = 10.0, []
    for _ in range(4):
        assert weights(known, now) == {"bad": -1.0}
        probe = known.started("a", now, "bad")
        # It is counted among the probes of paths, and not with what is known of its host.
        assert (probe.is_isolated, known.isolated_in_flight) == (True, 1)
        assert not any(known.in_flight(standing) for standing in ReceiverState)
        # One at a time, and it takes no room.
        assert weights(known, now) == {"bad": None}
        assert known.capacity("a", now) == 2
        known.finished(probe, ReceiverHealth.UNWELL, now)
        pauses.append(next(wait for wait in range(1, 100) if weights(known, now + wait)["bad"] is not None))
        now += pauses[-1]
    assert pauses == [20, 40, 60, 60]
    assert (known.capacity("a", now), known.in_flight(ReceiverState.HALF_OPEN)) == (2, 0)
    answer(known, "bad", ReceiverHealth.WELL, now)
    assert known.lottery("a", 8, now, may_probe=True) is None


def test_of_many_that_are_apart_one_is_probed_at_a_time_and_only_if_there_is_a_share() -> None:
    known = receivers()
    for name in ("bad-1", "bad-2"):
        answer(known, "good", ReceiverHealth.WELL)
        fail(known, name, 3)
    assert weights(known, 10, may_probe=False) == {"bad-1": None, "bad-2": None}
    assert weights(known, 10) == {"bad-1": -1.0, "bad-2": None}
    known.started("a", 10, "bad-1")
    assert weights(known, 10) == {"bad-1": None, "bad-2": None}


def test_paths_that_are_apart_are_asked_for_in_turns() -> None:
    """One of them may have nothing due for long."""
    known = receivers()
    for name in ("bad-1", "bad-2"):
        answer(known, "good", ReceiverHealth.WELL)
        fail(known, name, 3)
    assert weights(known, 10) == {"bad-1": -1.0, "bad-2": None}
    assert weights(known, 11) == {"bad-1": None, "bad-2": -1.0}
    assert weights(known, 12) == {"bad-1": -1.0, "bad-2": None}


def test_receivers_that_hang_leave_paths_their_probes() -> None:
    known = Receivers(8, EXACT, random.Random(1))
    for path, health in (
        ("good", ReceiverHealth.WELL),
        *[("bad", ReceiverHealth.UNWELL)] * 3,
        ("good", ReceiverHealth.WELL),
    ):
        known.finished(known.started("a", 0, path), health, 0)
    dead = [f"dead-{number}" for number in range(50)]
    for name in dead:
        for _ in range(3):
            known.finished(known.started(name, 0), ReceiverHealth.UNWELL, 0)
    due = DueReceivers(known, 16)
    due.add([*dead, "a"], 20)
    dealt = due.allocate(16, 20)
    assert sum(name in dealt for name in dead) == 4
    assert due.lotteries(dealt, 20)["a"].weights == {"bad": -1.0}


def test_a_path_that_has_failed_once_gets_one_request_at_a_time() -> None:
    known = receivers()
    assert known.lottery("a", 8, 0, may_probe=True) is None
    answer(known, "good", ReceiverHealth.WELL)
    fail(known, "bad")
    assert weights(known, 0) == {"bad": 0.5}
    begun = known.started("a", 0, "bad")
    assert weights(known, 0) == {"bad": None}
    known.finished(begun, ReceiverHealth.WELL, 0)
    assert known.lottery("a", 8, 0, may_probe=True) is None


def test_a_host_where_everything_fails_is_left_alone_as_a_whole() -> None:
    known = receivers()
    for name in ("a", "b"):
        answer(known, name, ReceiverHealth.WELL)
    requests = 0
    while known.standing("a", 0) is not ReceiverState.OPEN:
        fail(known, "ab"[requests % 2])
        requests += 1
    assert requests <= 6


def test_a_host_that_falls_with_all_its_paths_apart_is_left_alone() -> None:
    known = receivers(most=32)
    for _ in range(6):
        for name in ("a", "b"):
            answer(known, name, ReceiverHealth.WELL)
    together = [known.started("a", 0, name) for name in ["a"] * 16 + ["b"] * 16]
    for one in together:
        known.finished(one, ReceiverHealth.UNWELL, 0)
    assert known.standing("a", 0) is ReceiverState.OPEN


def test_deliveries_with_a_path_each_close_the_host_by_the_usual_count() -> None:
    known = receivers()
    answer(known, "good", ReceiverHealth.WELL)
    for number in range(3):
        assert known.capacity("a", 0) > 0
        fail(known, f"path-{number}")
    assert known.standing("a", 0) is ReceiverState.OPEN
    # And its probes are bounded, whichever path they go to.
    for now, name in ((10, "path-3"), (30, "path-0"), (70, "path-4")):
        assert known.standing("a", now) is ReceiverState.HALF_OPEN
        fail(known, name, now=now)
        assert known.standing("a", now) is ReceiverState.OPEN


def test_a_path_that_asks_for_a_pause_gets_it_for_itself() -> None:
    known = receivers()
    answer(known, "good", ReceiverHealth.WELL)
    answer(known, "busy", ReceiverHealth.UNWELL, asked=45)
    assert known.capacity("a", 0) == 1
    assert (weights(known, 44.9), weights(known, 45)) == ({"busy": None}, {"busy": -1.0})
    # A host of which every path asks is left alone.
    answer(known, "busy-2", ReceiverHealth.UNWELL, asked=45)
    answer(known, "busy-3", ReceiverHealth.UNWELL, asked=45)
    assert known.standing("a", 0) is ReceiverState.OPEN


def test_a_success_of_long_ago_excuses_nothing() -> None:
    known = receivers()
    answer(known, "good", ReceiverHealth.WELL)
    fail(known, "bad", 3, now=EXACT.longest + 1)
    assert known.standing("a", EXACT.longest + 1) is ReceiverState.OPEN


def test_a_host_that_is_probed_gets_one_request_likelier_to_a_path_that_did_not_fail() -> None:
    known = receivers()
    fail(known, "bad", 3)
    assert known.lottery("a", 1, 10, may_probe=False) == Lottery(1, {"bad": 0.5})
    known.started("a", 10, "other")
    assert known.capacity("a", 10) == 0


def test_a_lot_goes_on_where_the_last_look_ended() -> None:
    known = with_one_apart()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    known.reached("a", at)
    assert known.lottery("a", 2, 0, may_probe=True) == Lottery(2, {"bad": None}, at)
    known.reached("a", None)
    assert known.lottery("a", 2, 0, may_probe=True) == Lottery(2, {"bad": None})
    known.reached("forgotten", at)


def test_a_hosts_probe_of_a_path_apart_is_the_hosts() -> None:
    known = with_one_apart()
    for number in range(3):
        fail(known, f"path-{number}")
    assert weights(known, 9)["bad"] is None
    probe = known.started("a", 10, "bad")
    assert known.capacity("a", 10) == 0
    known.finished(probe, ReceiverHealth.UNWELL, 10)
    assert known.standing("a", 29) is ReceiverState.OPEN


def test_of_a_receiver_64_paths_are_remembered_and_those_apart_for_longer() -> None:
    paths = FailingPaths()
    paths.failed("a", "apart", 0).open(10)
    for number in range(100):
        paths.failed("a", f"path-{number}", 0)
    assert [one.name for one in paths.of("a")] == ["apart", *(f"path-{number}" for number in range(37, 100))]
    for number in range(100):
        paths.failed("a", f"path-{number}", 0).open(10)
    assert len(paths.of("a")) == 64
    assert paths.get("a", "apart") is None


def test_of_all_receivers_10_000_paths_are_remembered() -> None:
    paths = FailingPaths()
    for number in range(10_050):
        paths.failed(f"host-{number}", "path", 0)
    assert [len(paths.of(f"host-{number}")) for number in (0, 49, 50, 10_049)] == [0, 0, 1, 1]


def test_a_path_of_which_nothing_is_heard_for_an_hour_is_forgotten() -> None:
    paths = FailingPaths()
    paths.failed("a", "once", 0)
    paths.failed("a", "apart", 0).open(100)
    paths.expire("a", 3601)
    assert [one.name for one in paths.of("a")] == ["apart"]
    paths.expire("a", 3701)
    assert not paths.of("a")


def test_probes_of_paths_hold_no_more_than_their_share() -> None:
    known = Receivers(8, EXACT, random.Random(1))
    names = [f"host-{number}" for number in range(6)]
    for name in names:
        for path, health in (
            ("good", ReceiverHealth.WELL),
            *[("bad", ReceiverHealth.UNWELL)] * 3,
            ("good", ReceiverHealth.WELL),
        ):
            known.finished(known.started(name, 0, path), health, 0)
    due = DueReceivers(known, 16)
    lots = due.lotteries(dict.fromkeys([*names, "stranger"], 2), 10)
    assert list(lots) == names
    assert [lot.weights["bad"] for lot in lots.values()] == [-1.0] + [None] * 5
    for name in names[:1]:
        known.started(name, 10, "bad")
    assert {lot.weights["bad"] for lot in due.lotteries(dict.fromkeys(names, 2), 10).values()} == {None}
