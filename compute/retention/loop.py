"""Forgets now and then, beside a Dispatcher. Several may run: one of them does it."""

import asyncio
import logging
import random

from compute.db.away import DatabaseAway
from compute.errors import StorageFailed
from compute.retention.pruner import LEAD_SECONDS, NotLeading, Pruner

__all__ = ["RetentionLoop"]

_log = logging.getLogger(__name__)
_EVERY_SECONDS = 6 * 3600.0
"""Each time all rows that stay are read."""


class RetentionLoop:
    """Runs until cancelled."""

    def __init__(self, pruner: Pruner, every_seconds: float = _EVERY_SECONDS) -> None:
        self._pruner = pruner
        self._every = every_seconds

    async def run(self) -> None:
        while True:
            if not await self._once():
                # Whoever leads does it, unless that is the process in whose place we are.
                await asyncio.sleep(LEAD_SECONDS * random.uniform(1, 1.5))  # noqa: S311
                await self._once()
            # So that those of several processes do not always meet.
            await asyncio.sleep(self._every * random.uniform(0.8, 1.2))  # noqa: S311

    async def _once(self) -> bool:
        """Whether it was ours to do."""
        try:
            found = await self._pruner.prune()
        except NotLeading:
            return False
        except (DatabaseAway, StorageFailed) as error:
            _log.warning("forgetting what is old stopped, it goes on later: %s", error)
            return True
        except Exception:
            # Those beside it have nothing to do with that.
            _log.exception("forgetting what is old failed, it is tried again later")
            return True
        for kind in found:
            if kind.going or kind.failed or kind.held:
                _log.info(
                    "forgot %d old %s; %d stay for others, %d for their files, %d because somebody held them",
                    kind.going,
                    kind.kind,
                    kind.needed,
                    kind.failed,
                    kind.held,
                )
        return True
