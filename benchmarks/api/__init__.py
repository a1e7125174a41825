"""The API's own part: accepting a task, and lists."""
