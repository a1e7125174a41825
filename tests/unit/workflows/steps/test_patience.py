"""Patience of a step with the database and the object store."""

import pytest

from compute.db.away import DatabaseAway
from compute.errors import StorageAway, StorageFailed
from compute.workflows.steps.patience import patiently
from tests.proof.clock import SimulatedLoop


def run(*errors: Exception) -> tuple[int, float]:
    """How often it asked, and for how many seconds, with these errors in turn before the answer."""
    left = list(errors)
    calls = 0

    async def ask(question: str) -> str:
        nonlocal calls
        calls += 1
        if left:
            raise left.pop(0)
        return question

    loop = SimulatedLoop()
    try:
        assert loop.run_until_complete(patiently(ask, "?")) == "?"
        return calls, loop.time()
    finally:
        loop.close()


def test_it_waits_for_as_long_as_the_database_is_away() -> None:
    assert run(*[DatabaseAway("refused")] * 10_000) == (10_001, 10_000)


def test_it_waits_an_hour_for_an_object_store_that_is_away() -> None:
    """One whose rights were changed for good is away, too."""
    assert run(*[StorageAway("no connection")] * 3600) == (3601, 3600)
    with pytest.raises(StorageAway):
        run(*[StorageAway("no connection")] * 3700)


def test_an_absence_of_the_database_takes_nothing_of_that_hour() -> None:
    database, store = DatabaseAway("refused"), StorageAway("no connection")
    assert run(*[database] * 4000, *[store] * 3000, database, *[store] * 3000) == (10_002, 10_001)


def test_a_refusal_of_the_object_store_is_asked_a_few_times() -> None:
    refused = StorageFailed("The object store refused the credentials")
    assert run(*[refused] * 3) == (4, 1 + 2 + 4)
    with pytest.raises(StorageFailed, match="credentials"):
        run(*[refused] * 4)
