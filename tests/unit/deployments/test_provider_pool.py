"""The number of tasks for providers elsewhere that are claimed at a time."""

from typing import Any, cast

import pytest

from compute.deployments.args import ProviderArgs
from compute.deployments.providers import ProviderPool
from compute.providers.registry import remote_queues
from compute.settings import Settings
from compute.settings.providers import AccountLimit

KEYS: dict[str, Any] = {
    "fal_key": "key-id:key-secret",
    "fashn_api_key": "a-key-of-fashn",
    "magnific_api_key": "a-key-of-magnific",
    "gemini_api_key": "a-key-of-google",
    "openai_api_key": "a-key-of-openai",
}
VENDORS = {"fal": "fal", "fashn": "fashn", "freepik": "magnific", "vertex": "gemini", "sartiq": "gemini"}


class Handle:
    def options(self, **_: object) -> "Handle":
        return self


def capacity(queue: str, **settings: Any) -> int:
    pool = ProviderPool(ProviderArgs(), cast("Any", Handle()), queue, Settings(**KEYS | settings))
    pool.counted(1)
    return pool.capacity()


@pytest.mark.parametrize("queue", sorted(remote_queues() - {"llm"}))
def test_no_more_than_the_vendor_may_be_asked_at_a_time(queue: str) -> None:
    limits = {VENDORS[queue]: AccountLimit(concurrency=3)}
    assert capacity(queue, provider_limits=limits) == 3
    assert capacity(queue, provider_limits={VENDORS[queue]: AccountLimit(per_minute=2)}) == 2
    assert capacity(queue, provider_limits={}) == (4 if queue == "sartiq" else 500)


def test_the_limits_of_several_vendors_are_for_each_of_them() -> None:
    limits = {"openai": AccountLimit(concurrency=3)}
    assert capacity("llm", provider_limits=limits) == 500
    assert capacity("llm", provider_limits=limits, gemini_api_key=None) == 3
