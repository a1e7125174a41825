"""/workflows: definitions, changes, lists and answers."""
