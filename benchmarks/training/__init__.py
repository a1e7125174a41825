"""Training, compared with diffusers' script."""
