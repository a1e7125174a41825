"""The rows of trainings: created, queued, and updated by their jobs."""
