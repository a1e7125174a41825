"""Measurements behind the figures in the documentation. Each module is one command: `python -m benchmarks.NAME`."""
