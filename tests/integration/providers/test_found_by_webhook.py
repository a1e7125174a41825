"""A submit whose answer was lost is found by the vendor's webhook, and collected without a second one."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
from aiohttp import web
from pydantic import SecretStr

from compute.settings import Settings
from tests.integration.api.conftest import KEY
from tests.integration.providers.platform import open_platform
from tests.patience import PATIENCE
from tests.providers.standins.fal import Fal
from tests.providers.standins.faults import reset_after_body
from tests.providers.standins.jobs import Plan

AT_FAL = {"prompt": "a red coat", "width": 64, "height": 64, "seed": 7, "provider_type": "FAL_STANDARD"}
Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]


async def test_a_lost_submit_is_found_by_its_webhook(database_url: str, tmp_path: Path, serve: Serve) -> None:
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

    public = await serve(forward)
    async with Fal() as fal:
        fal.plan = Plan(("IN_QUEUE", "IN_PROGRESS", "COMPLETED"), held=True)
        fal.faults.on("submit", reset_after_body(), call=1)
        settings = Settings(
            api_key=KEY,
            database_url=database_url,
            home=tmp_path,
            media_allowed_hosts="127.0.0.1",
            media_timeout_seconds=PATIENCE,
            public_url=f"http://{public}",
            fal_key=SecretStr(fal.key),
            fal_queue_url=fal.url("queue"),
            fal_jwks_url=f"{fal.url('rest')}/.well-known/jwks.json",
        )
        async with open_platform(settings) as platform, platform.dispatching():
            behind.append(str(platform.api.base_url).removesuffix("/api/v1/"))
            task = await platform.submit("GENERATION", **AT_FAL)
            async with asyncio.timeout(PATIENCE):
                while [call.state for call in await platform.calls(task["id"])] != ["UNCERTAIN"]:
                    await asyncio.sleep(0.02)
            await platform.until(task["id"], "PENDING")
            await fal.finish(fal.made[0])
            await fal.webhooks.idle()
            assert fal.webhooks.outbox[0].statuses == [204]
            done = await platform.until(task["id"], "COMPLETED", "FAILED")
            assert done["status"] == "COMPLETED", done["errors"]
            (call,) = await platform.calls(task["id"])
            assert (call.state, call.settled, call.vendor_id) == ("COLLECTED", "webhook", fal.made[0].id)
            assert fal.submits == 1
