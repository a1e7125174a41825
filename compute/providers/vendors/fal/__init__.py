"""fal: its queue, the arguments of its apps, and what its providers have in common."""
