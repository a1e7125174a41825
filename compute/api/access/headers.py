"""Headers of answers that tell how a key stands with its limits."""

import math

__all__ = ["LIMIT_HEADERS", "limit_headers", "seconds_up"]

LIMIT_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


def limit_headers(limit: int, remaining: int, reset_seconds: float) -> dict[str, str]:
    """The limit that is nearest, what is left of it, and in how many seconds all of it is there again."""
    values = (str(limit), str(max(remaining, 0)), seconds_up(reset_seconds))
    return dict(zip(LIMIT_HEADERS, values, strict=True))


def seconds_up(seconds: float) -> str:
    """A wait in whole seconds, at least one."""
    return str(max(1, math.ceil(seconds)))
