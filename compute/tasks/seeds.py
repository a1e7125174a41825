"""Random seeds."""

import secrets

__all__ = ["seed_or_new"]


def seed_or_new(seed: int | None) -> int:
    """The seed of a request, or one made for it: chosen once, so that every attempt gives the same result."""
    return secrets.randbelow(2**32) if seed is None else seed
