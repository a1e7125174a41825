"""Answers of /monitoring."""
