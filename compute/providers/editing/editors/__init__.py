"""Editors: Google's models, vendors with a queue, and the models of this cluster."""
