"""Stores accepted tasks: those that arrive together in one transaction."""
