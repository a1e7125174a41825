"""Runs steps: their requests, results and checkpoints."""
