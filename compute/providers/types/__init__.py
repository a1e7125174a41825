"""Providers, one module each."""
