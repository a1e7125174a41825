"""/tasks: requests, changes, lists, events and answers."""
