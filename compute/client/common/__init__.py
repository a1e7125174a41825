"""What the synchronous and the asynchronous client share: everything that does not wait."""
