"""Model files: checked, measured and loaded into host memory."""
