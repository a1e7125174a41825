"""The time that a test waits for what must happen."""

PATIENCE = 300.0
"""Seconds, far more than the busiest machine needs: a wait that reaches it has found a hang, not a slow machine. A test
that means "at once" lets the alternative take `NEVER`, and waits for its own condition."""

NEVER = 10 * PATIENCE
"""Seconds that no test lives to see: the period of a poll that must not be what brought the news, the delay of a
receiver that hangs."""
