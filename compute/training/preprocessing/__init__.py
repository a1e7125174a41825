"""Preprocessing of a training: from the named images to latents and embeddings for the network."""
