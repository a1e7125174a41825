"""Tracks since when the store has been well, as one process has seen it."""

import asyncio

__all__ = ["Wellness"]


class Wellness:
    """Told of calls that worked or failed, and of the store's clock. A store that nobody has seen failing has always
    been well."""

    def __init__(self) -> None:
        self._since: float | None = float("-inf")
        self._ahead: float | None = None

    def failed(self) -> None:
        self._since = None

    def worked(self) -> None:
        if self._since is None:
            self._since = asyncio.get_running_loop().time()

    def held_up(self) -> None:
        """This process has not run for a while. As if the store had been away until now."""
        if self._since is not None:
            self._since = asyncio.get_running_loop().time()

    def saw(self, store_seconds: float, *, tolerance: float) -> None:
        """The store's clock was read. One that has moved further than our own, by more than `tolerance`, has jumped, or
        this machine was suspended: leases have run out that their owners meant to renew. As if it had been away."""
        now = asyncio.get_running_loop().time()
        ahead = store_seconds - now
        if self._ahead is not None and ahead - self._ahead > tolerance:
            self._since = now
        self._ahead = ahead

    def lasts(self, seconds: float) -> bool:
        """Whether it has been well for so long."""
        return self._since is not None and asyncio.get_running_loop().time() - self._since >= seconds
