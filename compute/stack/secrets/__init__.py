"""The secrets of a stack: handed over, shown and rotated."""
