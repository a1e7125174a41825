"""/monitoring."""
