"""What the operator reads while the stack starts, runs or fails."""
