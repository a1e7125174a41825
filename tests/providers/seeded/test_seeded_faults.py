"""Seeded faults: whatever happens to a call, nothing is paid twice and nothing that was made is lost.

`python -m benchmarks.providers.faults` plays thousands of them; a failure names the number of its run.
"""

import asyncio
import logging
from pathlib import Path

import pytest

from tests.providers.seeded.chances import Comes, chance_of, mishaps_at
from tests.providers.seeded.judging import wrongs
from tests.providers.seeded.lanes import Ended, KeyWatch, keys, open_lane
from tests.providers.seeded.subjects import SUBJECTS

RUNS = 240
LANES = 12
SEED = 15


async def ran(folder: Path, numbers: range) -> list[Ended]:
    """The runs with these numbers, judged while their stand-ins know of them."""
    waiting, ended = iter(numbers), []

    async def work(lane_folder: Path) -> None:
        async with open_lane(lane_folder) as lane:
            for number in waiting:
                one = await lane.run(chance_of(SEED, number))
                one.wrong = wrongs(one)
                ended.append(one)

    await asyncio.gather(*(work(folder / str(nth)) for nth in range(LANES)))
    return ended


async def test_nothing_is_paid_twice_and_nothing_is_lost(tmp_path: Path) -> None:
    watch, logger = KeyWatch(keys()), logging.getLogger()
    level = logger.level
    logger.addHandler(watch)
    logger.setLevel(logging.DEBUG)
    try:
        ended = await ran(tmp_path, range(RUNS))
    finally:
        logger.setLevel(level)
        logger.removeHandler(watch)
    assert [wrong for one in ended for wrong in one.wrong] == []
    assert watch.found == []
    assert {"done", "doubt", "PROVIDER_ERROR", "INVALID_INPUT"} <= {one.final for one in ended}
    assert any(one.kills and one.final == "done" for one in ended)


def test_every_provider_elsewhere_takes_part() -> None:
    from compute.providers.base import RemoteProvider
    from compute.providers.registry import all_providers

    remote = {name for name, one in all_providers().items() if isinstance(one, RemoteProvider)}
    assert {subject.provider for subject in SUBJECTS} == remote


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_every_point_of_a_call_has_mishaps(subject) -> None:  # type: ignore[no-untyped-def]
    for point in subject.vendor.routes:
        assert {one.comes for one in mishaps_at(point, subject.vendor)} >= {Comes.NOTHING}


def test_a_seed_says_what_happens() -> None:
    first, again, other = chance_of(1, 7), chance_of(1, 7), chance_of(2, 7)
    assert str(first) == str(again)
    assert str(first) != str(other)
