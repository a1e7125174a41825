"""The queue: claims, the Dispatcher, and retention."""
