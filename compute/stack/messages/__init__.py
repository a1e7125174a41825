"""Messages for the operator while the stack starts, runs or fails."""
