"""Shared parts of the synchronous and the asynchronous client: everything that does not wait."""
