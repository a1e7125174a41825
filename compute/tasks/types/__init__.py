"""One module per task type. See `compute.tasks.registry`."""
