"""Secrets: what they must be, and the files that keep them."""
