"""Definitions of workflows: their graphs, fields and mappings, and the checks that they can run."""
