"""Links to stored objects that work without an API key until they expire."""
