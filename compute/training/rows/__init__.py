"""The rows of trainings: accepted, queued, reported on."""
