"""The image work of task types whose result is more than what a model draws."""
