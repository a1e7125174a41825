"""From fields to a row of `tasks`: what the API and the workflow engine do alike when something is ordered."""
