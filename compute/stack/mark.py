"""The environment variable that marks the processes of a stack."""

__all__ = ["MARK"]

MARK = "COMPUTE_STACK"
"""Set for Ray's processes, with the stack's COMPUTE_HOME as value. Leftovers of PostgreSQL are handled by its own
code."""
