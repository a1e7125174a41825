"""Durations as answers show them."""

from datetime import datetime

__all__ = ["duration_ms"]


def duration_ms(started_at: datetime | None, completed_at: datetime | None) -> float | None:
    """Milliseconds between the two; None unless there are both."""
    if started_at is None or completed_at is None:
        return None
    return round((completed_at - started_at).total_seconds() * 1000, 3)
