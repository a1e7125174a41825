"""A stop signal interrupts what waits, spares what must not be interrupted, and counts once."""

import os
import signal
from collections.abc import Iterator

import pytest

from compute.stack.stop_signals import StopRequested, StopSignals

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def stop() -> Iterator[StopSignals]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    stop = StopSignals()
    stop.listen()
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", NUMBERS)
def test_it_interrupts_the_main_thread(stop: StopSignals, number: signal.Signals) -> None:
    with pytest.raises(StopRequested):
        send(number)


def test_what_is_held_is_finished_first(stop: StopSignals) -> None:
    done = []

    def work() -> None:
        with stop.deferred():
            send(signal.SIGINT)
            done.append("the rest")

    with pytest.raises(StopRequested):
        work()
    assert done == ["the rest"]


def test_a_failure_inside_does_not_hide_the_request(stop: StopSignals) -> None:
    def work() -> None:
        with stop.deferred():
            send(signal.SIGTERM)
            raise ValueError("half started")

    with pytest.raises(StopRequested):
        work()


def test_a_failure_without_a_request_stays_what_it_is(stop: StopSignals) -> None:
    with pytest.raises(ValueError, match="broken"), stop.deferred():
        raise ValueError("broken")


def test_only_the_first_one_counts(stop: StopSignals) -> None:
    with pytest.raises(StopRequested):
        send(signal.SIGINT)
    send(signal.SIGINT)
    stop.listen()
    send(signal.SIGTERM)


def test_handlers_that_others_have_put_in_place_are_replaced(stop: StopSignals) -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    stop.listen()
    with pytest.raises(StopRequested):
        send(signal.SIGTERM)


def test_nothing_interrupts_the_stopping(stop: StopSignals) -> None:
    stop.ignore()
    for number in NUMBERS:
        send(number)
