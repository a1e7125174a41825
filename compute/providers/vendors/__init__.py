"""The protocols of vendors."""
