"""Deletes what ended long ago, with all that belongs to it, and expired internal rows."""
