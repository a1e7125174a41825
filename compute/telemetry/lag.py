"""How late the event loop of a process is: what blocks it delays every request, heartbeat and stream."""

import asyncio

from compute.telemetry.instruments import EVENT_LOOP_LAG

__all__ = ["watch_event_loop"]

_EVERY_SECONDS = 0.5


async def watch_event_loop(process: str) -> None:
    """Observe the lag until cancelled. `process` is what kind of process it is, such as `ingress`."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _EVERY_SECONDS
        await asyncio.sleep(_EVERY_SECONDS)
        EVENT_LOOP_LAG.observe(max(loop.time() - due, 0.0), process)
