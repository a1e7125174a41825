"""Preparation of a replica before its first task."""
