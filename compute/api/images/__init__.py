"""/storage/images."""
