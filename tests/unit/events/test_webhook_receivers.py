"""How much one receiver may be sent at once."""

from compute.events.webhook_receivers import Receivers


def exchange(receivers: Receivers, receiver: str, *, prompt: bool) -> None:
    receivers.started(receiver)
    receivers.finished(receiver, prompt=prompt)


def test_an_unknown_receiver_has_room_for_one() -> None:
    receivers = Receivers(most=8)
    assert receivers.rooms() == {}
    receivers.started("a")
    assert receivers.rooms() == {"a": 0}
    receivers.finished("a", prompt=False)
    assert receivers.rooms() == {}


def test_prompt_successes_earn_room_up_to_the_most() -> None:
    receivers = Receivers(most=6)
    earned = []
    for _ in range(4):
        exchange(receivers, "a", prompt=True)
        earned.append(receivers.rooms()["a"])
    assert earned == [2, 4, 6, 6]


def test_what_is_in_flight_takes_room() -> None:
    receivers = Receivers(most=8)
    exchange(receivers, "a", prompt=True)
    exchange(receivers, "a", prompt=True)
    for room in (3, 2, 1, 0):
        receivers.started("a")
        assert receivers.rooms() == {"a": room}


def test_one_bad_answer_loses_what_was_earned() -> None:
    receivers = Receivers(most=8)
    exchange(receivers, "a", prompt=True)
    exchange(receivers, "a", prompt=True)
    receivers.started("a")
    receivers.started("a")
    receivers.finished("a", prompt=False)
    assert receivers.rooms() == {"a": 0}


def test_receivers_do_not_share_room() -> None:
    receivers = Receivers(most=8)
    receivers.started("dead")
    exchange(receivers, "alive", prompt=True)
    assert receivers.rooms() == {"dead": 0, "alive": 2}


def test_memory_is_bounded() -> None:
    receivers = Receivers(most=8)
    for number in range(2000):
        exchange(receivers, f"host-{number}", prompt=True)
    assert len(receivers.rooms()) <= 500
    assert "host-1999" in receivers.rooms()
