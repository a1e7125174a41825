"""/evaluation."""
