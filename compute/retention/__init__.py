"""Forgets what ended long ago, with all that belongs to it, and what the system itself keeps for a while only."""
