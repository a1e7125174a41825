"""Runs the pruner every few hours in each Dispatcher. Of several processes, one does the work."""

import asyncio
import logging
import random

from compute.db.away import DatabaseAway
from compute.errors import StorageFailed
from compute.retention.pruner import LEAD_SECONDS, NotLeader, Pruner

__all__ = ["RetentionLoop"]

_log = logging.getLogger(__name__)
_EVERY_SECONDS = 6 * 3600.0
"""Every run reads all rows that stay."""


class RetentionLoop:
    """Prunes periodically until cancelled."""

    def __init__(self, pruner: Pruner, every_seconds: float = _EVERY_SECONDS) -> None:
        self._pruner = pruner
        self._every = every_seconds

    async def run(self) -> None:
        while True:
            if not await self._once():
                # Try again once the lead of the other process has expired: it may be our crashed predecessor.
                await asyncio.sleep(LEAD_SECONDS * random.uniform(1, 1.5))  # noqa: S311
                await self._once()
            # Jitter, so that several processes do not always start together.
            await asyncio.sleep(self._every * random.uniform(0.8, 1.2))  # noqa: S311

    async def _once(self) -> bool:
        """Prune once. Return False if another process leads."""
        try:
            found = await self._pruner.prune()
        except NotLeader:
            return False
        except (DatabaseAway, StorageFailed) as error:
            _log.warning("pruning stopped, the next run continues: %s", error)
            return True
        except Exception:
            # The Dispatcher's other loops must keep running.
            _log.exception("pruning failed, the next run tries again")
            return True
        for kind in found:
            if kind.forgotten or kind.failed or kind.locked:
                _log.info(
                    "pruned %d old %s; %d stay for others, %d for their files, %d because they were locked or changed",
                    kind.forgotten,
                    kind.kind,
                    kind.needed,
                    kind.failed,
                    kind.locked,
                )
        return True
