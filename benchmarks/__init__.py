"""Figures behind the claims of the documentation. Each module is one command: `python -m benchmarks.NAME`."""
