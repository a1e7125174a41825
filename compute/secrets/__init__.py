"""Secrets: rules for their form, and the files that store them."""
