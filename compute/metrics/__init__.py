"""Metrics of the whole cluster: sums that processes add to, and what is read from rows."""
