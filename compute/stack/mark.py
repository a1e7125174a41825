"""How processes of a stack are told from others."""

__all__ = ["MARK"]

MARK = "COMPUTE_STACK"
"""Carried by Ray's processes, with the stack's COMPUTE_HOME as its value. PostgreSQL sees to its own leftovers."""
