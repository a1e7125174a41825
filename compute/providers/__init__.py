"""Providers, which execute tasks: one module each."""
