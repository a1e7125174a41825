"""A submit whose answer was lost is found by the vendor's webhook, and collected without a second one."""

from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp import web

from tests.integration.providers.platform import AT_FAL, HELD, OpenPlatform, leading_to
from tests.providers.standins.fal import Fal
from tests.providers.standins.faults import reset_after_body

Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]


async def test_a_lost_submit_is_found_by_its_webhook(opened: OpenPlatform, fal: Fal, serve: Serve) -> None:
    behind: list[str] = []

    async def forward(request: web.Request) -> web.StreamResponse:
        """What stands at the public address."""
        headers = {
            name: text for name, text in request.headers.items() if name.lower().startswith(("x-fal", "content-t"))
        }
        async with aiohttp.ClientSession() as session:
            body = await request.read()
            async with session.request(
                request.method, f"{behind[0]}{request.path_qs}", data=body, headers=headers
            ) as to:
                return web.Response(status=to.status, body=await to.read())

    fal.plan = HELD
    fal.faults.on("submit", reset_after_body(), call=1)
    webhooks = {
        "public_url": f"http://{await serve(forward)}",
        "fal_jwks_url": f"{fal.url('rest')}/.well-known/jwks.json",
    }
    async with opened(**leading_to(fal), **webhooks) as platform, platform.dispatching():
        behind.append(str(platform.api.base_url).removesuffix("/api/v1/"))
        task = await platform.submit("GENERATION", **AT_FAL)
        await platform.until_states(task["id"], "UNCERTAIN")
        await platform.until(task["id"], "PENDING")
        await fal.finish(fal.made[0])
        await fal.webhooks.idle()
        assert fal.webhooks.outbox[0].statuses == [204]
        done = await platform.until(task["id"], "COMPLETED", "FAILED")
        assert done["status"] == "COMPLETED", done["errors"]
        (call,) = await platform.calls(task["id"])
        assert (call.state, call.settled, call.vendor_id) == ("COLLECTED", "webhook", fal.made[0].id)
        assert fal.submits == 1
