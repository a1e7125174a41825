"""Tiny models of the real architectures with random weights."""
