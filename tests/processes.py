"""Processes that may end at any moment."""

import psutil

__all__ = ["runs"]


def runs(process: psutil.Process) -> bool:
    """Whether this very process still runs: one that nobody has waited for yet does not, nor one that has its number
    now."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
