"""One file per task type. See `compute.tasks.registry`."""
