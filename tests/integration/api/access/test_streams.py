"""Event streams of one tenant leave room for those of others, and for other requests."""

import asyncio
from contextlib import AsyncExitStack

from compute.settings import Settings
from tests.integration.api.access.conftest import SMALL, GiveKey
from tests.integration.api.access.scene import MINE, THEIRS, client, key_of, made
from tests.integration.api.conftest import serving_api
from tests.patience import PATIENCE


async def test_a_tenant_has_a_share_of_the_streams_and_gets_a_place_back_when_one_ends(
    settings: Settings, give: GiveKey
) -> None:
    keys = [await key_of(give, MINE), await key_of(give, MINE), await key_of(give, THEIRS)]
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving_api(settings, max_ongoing_requests=8))
        first, second, other = [await stack.enter_async_context(client(url, key)) for key in keys]
        mine, theirs = [(await made(api, "/tasks/", json=SMALL))["id"] for api in (first, other)]
        opened = AsyncExitStack()
        for api in (first, second):
            stream = await opened.enter_async_context(api.stream("GET", f"/tasks/{mine}/events"))
            assert stream.status_code == 200
        for api in (first, second):
            async with asyncio.timeout(PATIENCE):
                refused = await api.get(f"/tasks/{mine}/events")
            assert (refused.status_code, refused.json()["code"]) == (429, "LIMIT_REACHED")
            assert int(refused.headers["retry-after"]) > 0
        assert (await first.get(f"/tasks/{mine}")).status_code == 200
        async with other.stream("GET", f"/tasks/{theirs}/events") as stream:
            assert stream.status_code == 200
        await opened.aclose()
        async with asyncio.timeout(PATIENCE):
            while True:
                async with second.stream("GET", f"/tasks/{mine}/events") as stream:
                    if stream.status_code == 200:
                        break
                await asyncio.sleep(0.05)
