"""Our queue compared with its peers."""
