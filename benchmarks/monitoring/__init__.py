"""Times of the monitoring routes beside many tasks."""
