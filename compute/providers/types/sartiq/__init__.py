"""Providers that refine images over an editor."""
