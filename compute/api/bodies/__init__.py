"""Bodies of requests: JSON and multipart forms, bounded as they arrive."""
