"""TIFF: its pages and its tags."""
