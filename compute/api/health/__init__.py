"""/health."""
