"""Ids of tasks: UUIDs of version 7, which grow with time.

New rows then go to the right end of every index that holds the id, instead of to a page of their own each. Once the
table is larger than the server's memory, that is the difference between one page and several per task.
"""

import os
import time
from uuid import UUID

__all__ = ["new_task_id"]


def new_task_id() -> UUID:
    """A fresh id: milliseconds since 1970 in 48 bits, and 74 random bits (RFC 9562, section 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10))
    # Version 7 and the variant of the RFC, at their fixed places.
    value = value & ~(0xF << 76) | (0x7 << 76)
    return UUID(int=value & ~(0x3 << 62) | (0x2 << 62))
