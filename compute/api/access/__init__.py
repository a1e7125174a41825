"""Callers and what they may do: keys, scopes, limits, the log of who did what."""
