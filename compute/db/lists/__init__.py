"""Lists of rows, newest first, at a bounded cost."""
