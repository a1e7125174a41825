"""TIFF: pages and tags."""
