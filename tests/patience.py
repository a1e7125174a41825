"""How long a test waits for what must happen."""

import asyncio

import uvicorn

PATIENCE = 300.0
"""Seconds, far more than the busiest machine needs: a wait that reaches it has found a hang, not a slow machine. A test
that means "at once" lets the alternative take `NEVER`, and waits for its own condition."""

NEVER = 10 * PATIENCE
"""Seconds that no test lives to see: the period of a poll that must not be what brought the news, the delay of a
receiver that hangs."""


async def until_started(server: uvicorn.Server, running: "asyncio.Task[None]") -> None:
    """Until a server answers; fails if its `running` ends instead."""
    async with asyncio.timeout(PATIENCE):
        while not server.started:
            assert not running.done(), "the server did not start"
            await asyncio.sleep(0.01)
