"""The asynchronous client. `compute/client/sync` is made of this folder by `python -m tools.unasync`."""
