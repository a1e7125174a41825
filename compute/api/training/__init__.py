"""/training: requests, changes, lists and answers."""
