"""Loops that come round: one that has not for long hangs."""

import asyncio

__all__ = ["Rounds"]


class Rounds:
    """Each loop tells when it begins a round. For one event loop, by whose time they are measured."""

    def __init__(self, *, patience_seconds: float) -> None:
        """`patience_seconds`: far more than a round takes whose waits all have an end."""
        self._patience_seconds = patience_seconds
        self._late_at: dict[str, float] = {}

    def came(self, loop: str, pause: float) -> None:
        """A round begins; the next one follows `pause` seconds after its end."""
        self._late_at[loop] = asyncio.get_running_loop().time() + pause + self._patience_seconds

    def check(self) -> None:
        """Raises:
        RuntimeError: a loop is long overdue.
        """
        now = asyncio.get_running_loop().time()
        if late := [loop for loop, late_at in self._late_at.items() if late_at < now]:
            raise RuntimeError(f"These loops hang: {', '.join(sorted(late))}")
