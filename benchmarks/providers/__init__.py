"""Providers elsewhere: what faults of a vendor cost, and how many tasks wait for one at a time."""
