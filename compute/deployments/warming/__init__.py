"""What a replica does before its first task."""
