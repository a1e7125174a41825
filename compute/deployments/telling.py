"""Replicas that tell the Dispatcher of themselves, busy or idle, because they write to no database."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from compute.worker.vitals import Vitals

__all__ = ["DISPATCHER", "VitalsTeller"]

_log = logging.getLogger(__name__)
DISPATCHER = "Dispatcher"
"""The deployment's name."""
_SECONDS = 2.0
_ANSWER_SECONDS = 5.0


class VitalsTeller:
    """Tells one of the Dispatchers every two seconds, from the first call of `begin` on. While there is none, nothing
    is told, and nothing else of the replica waits for it."""

    def __init__(self, vitals: Callable[[], Vitals]) -> None:
        """`vitals` may block for some milliseconds; it is called in a thread."""
        self._vitals = vitals
        self._telling: asyncio.Task[None] | None = None
        self._silent = False

    def begin(self) -> None:
        """Begin, within the event loop of the replica; once more if it has ended."""
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_always(), name="telling how it is")

    async def _tell_always(self) -> None:
        dispatcher = serve.get_deployment_handle(DISPATCHER, serve.get_replica_context().app_name)
        while True:
            vitals = await asyncio.to_thread(self._vitals)
            response = dispatcher.heard_of.remote(vitals)
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await response
                self._silent = False
            except (RayError, RayServeException, TimeoutError) as error:
                # Told by the log once, and by the age of the last heartbeat.
                if not self._silent:
                    _log.warning("no Dispatcher hears how this replica is: %s", type(error).__name__)
                self._silent = True
                with contextlib.suppress(RayError, RayServeException):
                    response.cancel()
            await asyncio.sleep(_SECONDS)
