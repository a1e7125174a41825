"""The secrets of a stack: moved from the environment to files, shown and rotated."""
