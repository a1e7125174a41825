"""The quick-start dialect."""
