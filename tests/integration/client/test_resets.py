"""Connections are reset at every point: each submit makes one task, and streams lose and repeat nothing.

`python -m benchmarks.client` counts the same for 1,000 resets and 1,000 cut streams, beside other clients.
"""

import pytest
from httpx import URL

from benchmarks.client.cutting import Cut, CuttingProxy, Plan, streams_cut, submits_cut
from benchmarks.client.scenarios import count_streams, count_submits
from compute.client import AsyncCompute, Failure, NoAnswer, RetryPolicy
from compute.db.session import Database
from tests.integration.api.conftest import KEY

RESETS = 300
STREAMS = 20
CUT_STREAMS = 100


def proxy(url: str, plans: object) -> CuttingProxy:
    address = URL(url)
    assert address.port is not None
    return CuttingProxy((address.host, address.port), iter(plans))  # type: ignore[call-overload]


async def test_each_submit_makes_one_task_wherever_connections_are_reset(base_url: str, database: Database) -> None:
    # More plans than cuts: those of connections that are given up idle, before their turn to be cut, come to nothing.
    async with proxy(base_url, submits_cut(4711, 10 * RESETS)).listening() as between:
        count = await count_submits(between, KEY, database, 0, at_once=6, cuts=RESETS)
    assert count.told == count.stored == count.asked > 0
    assert count.cuts.total() >= RESETS
    assert set(count.cuts) == set(Cut)


async def test_cut_streams_lose_nothing_and_repeat_nothing(base_url: str, database: Database) -> None:
    async with proxy(base_url, streams_cut(4711, CUT_STREAMS + STREAMS)).listening() as between:
        count = await count_streams(between, base_url, KEY, database, streams=STREAMS, cuts=CUT_STREAMS, pace=0.05)
    assert count.cuts >= CUT_STREAMS
    assert count.logged >= 3 * STREAMS
    assert (count.lost, count.repeated, count.backwards, count.garbled) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("cut", "with_key", "without"),
    [
        (Cut.BEFORE_REQUEST, Failure.COLLECTABLE, Failure.UNKNOWN),
        (Cut.AFTER_REQUEST, Failure.COLLECTABLE, Failure.UNKNOWN),
    ],
)
async def test_without_a_key_what_may_be_done_is_not_sent_again(
    base_url: str, database: Database, cut: Cut, with_key: Failure, without: Failure
) -> None:
    body = {"task_type": "GENERATION", "prompt": "a dress", "width": 64}
    retry = RetryPolicy(tries=2, first_pause=0.01)
    async with (
        proxy(base_url, [Plan(cut), Plan(cut), Plan(cut)]).listening() as between,
        AsyncCompute(between.url, KEY, retry=retry) as client,
    ):
        with pytest.raises(NoAnswer) as keyless:
            await client.request("POST", "/tasks/", body=body, idempotency_key="")
        assert (keyless.value.failure, keyless.value.tries) == (without, 1)
        with pytest.raises(NoAnswer) as keyed:
            await client.request("POST", "/tasks/", body=body, idempotency_key="order-18")
        assert (keyed.value.failure, keyed.value.tries) == (with_key, 2)
        assert keyed.value.idempotency_key == "order-18"
        # Whoever knows the key gets what was made, if anything was.
        made = await client.request("POST", "/tasks/", body=body, idempotency_key="order-18")
        again = await client.request("POST", "/tasks/", body=body, idempotency_key="order-18")
    assert made == again
    assert between.cuts[cut] == 3
