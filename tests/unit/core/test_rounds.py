import pytest

from compute.dispatch.rounds import Rounds


def test_a_loop_that_does_not_come_round_is_named() -> None:
    now = 0.0
    rounds = Rounds(clock=lambda: now)
    rounds.check()
    rounds.came("reaping", 5)
    rounds.came("claiming", 600)
    now = 124.0
    rounds.check()
    now = 126.0
    with pytest.raises(RuntimeError, match=r"hang: reaping$"):
        rounds.check()
    rounds.came("reaping", 5)
    rounds.check()
