"""From the pictures that a training names to the latents and embeddings that its network reads."""
