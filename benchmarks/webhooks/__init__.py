"""The webhook sender."""
