"""Run the whole system on one machine: the supervisor behind `compute up` and `compute down`.

Nothing of the system depends on this package; it only sets environment variables, and any other way of starting
the same parts (`serve run`, a cluster) works as well.
"""
