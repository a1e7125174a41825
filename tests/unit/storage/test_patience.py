"""Patience of work with an object store that is away."""

import logging

import pytest

from compute.errors import StorageAway, StorageFailed
from compute.storage.patience import until_back
from tests.proof.clock import SimulatedLoop, pause


class Store:
    """Fails with `errors` in turn, then does what it is asked."""

    def __init__(self, *errors: Exception) -> None:
        self.calls = 0
        self._errors = list(errors)

    async def store(self) -> str:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)
        return "done"


def away(times: int) -> list[Exception]:
    return [StorageAway("The object store could not be reached") for _ in range(times)]


def test_it_waits_longer_each_time_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    store = Store(*away(6))
    loop = SimulatedLoop()
    with caplog.at_level(logging.WARNING):
        assert loop.run_until_complete(until_back(store.store, who="a result", pause=pause)) == "done"
    assert (store.calls, loop.time()) == (7, 1 + 2 + 4 + 8 + 15 + 15)
    assert "waits for the object store" in caplog.text
    loop.close()


def test_it_gives_up_in_the_end() -> None:
    store = Store(*away(1000))
    loop = SimulatedLoop()
    with pytest.raises(StorageAway):
        loop.run_until_complete(until_back(store.store, who="a result", pause=pause))
    assert 580 < loop.time() <= 600
    loop.close()


def test_the_store_is_given_as_long_however_long_the_work_took_before() -> None:
    """An hour's download, and then the store is away for its result."""
    tries: list[float] = []

    async def work() -> str:
        tries.append(loop.time())
        await pause(3600)
        if len(tries) < 4:
            raise StorageAway("The object store could not be reached")
        return "done"

    loop = SimulatedLoop()
    assert loop.run_until_complete(until_back(work, who="a training", pause=pause)) == "done"
    assert len(tries) == 4
    loop.close()


def test_work_that_always_ends_in_the_same_way_is_given_up() -> None:
    """A disk that has room for half of it."""

    async def work() -> str:
        await pause(1000)
        raise StorageAway("The disk is full")

    loop = SimulatedLoop()
    with pytest.raises(StorageAway):
        loop.run_until_complete(until_back(work, who="a training", pause=pause))
    assert loop.time() < 10_000
    loop.close()


def test_a_refusal_is_final() -> None:
    store = Store(*away(1), StorageFailed("The object store refused the credentials"))
    loop = SimulatedLoop()
    with pytest.raises(StorageFailed, match="credentials"):
        loop.run_until_complete(until_back(store.store, who="a result", pause=pause))
    assert store.calls == 2
    loop.close()
