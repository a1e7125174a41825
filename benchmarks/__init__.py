"""Measurements behind the figures in the documentation, by part of the system.

Each module is one command: `python -m benchmarks.PART.NAME`; those with a `__main__` are `python -m benchmarks.PART`.
"""
