"""A PostgreSQL server of our own, for machines that have none."""
