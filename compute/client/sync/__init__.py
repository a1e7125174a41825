# Made of compute/client/aio by `python -m tools.unasync`: change it there.
"""The synchronous client, made of `compute/client/aio`."""
