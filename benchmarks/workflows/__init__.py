"""Workflows, compared with tasks by hand and with DBOS."""
