"""From fields to a row of `tasks`: what the API and the workflow engine do alike with a request for a task."""
