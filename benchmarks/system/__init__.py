"""The whole system, started as users start it."""
