"""Since when the store has been well, as one process has seen it."""

import asyncio

__all__ = ["Wellness"]


class Wellness:
    """Told of every call that worked or failed. A store that nobody has seen failing has always been well."""

    def __init__(self) -> None:
        self._since: float | None = float("-inf")

    def failed(self) -> None:
        self._since = None

    def worked(self) -> None:
        if self._since is None:
            self._since = asyncio.get_running_loop().time()

    def lasts(self, seconds: float) -> bool:
        """Whether it has been well for so long."""
        return self._since is not None and asyncio.get_running_loop().time() - self._since >= seconds
