"""Who calls, and what that caller may do: keys, scopes, limits, the log of who did what."""
