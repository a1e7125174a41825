"""Whose quotas had no room lately is remembered for some seconds."""

from compute.tasks.submission.full import FullQuotas
from compute.tasks.submission.quotas import Quota

SHOP, STUDIO = Quota("key:shop", "this key", 1, None), Quota("key:studio", "this key", 1, None)


def test_who_was_refused_may_be_full_for_some_seconds() -> None:
    now = [0.0]
    full = FullQuotas(seconds=10, clock=lambda: now[0])
    assert not full.may_be([SHOP, STUDIO])
    full.note([SHOP])
    assert full.may_be([STUDIO, SHOP])
    assert not full.may_be([STUDIO])
    now[0] = 9.0
    assert full.may_be([SHOP])
    full.note([SHOP])
    now[0] = 18.0
    assert full.may_be([SHOP])
    now[0] = 19.5
    assert not full.may_be([SHOP])
    assert not full.may_be([])


def test_no_number_of_them_takes_memory_without_end() -> None:
    full = FullQuotas()
    for number in range(10_001):
        full.note([Quota(f"key:{number}", "this key", 1, None)])
    assert not full.may_be([Quota("key:0", "this key", 1, None)])
    assert full.may_be([Quota("key:10000", "this key", 1, None)])
