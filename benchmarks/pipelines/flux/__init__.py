"""FLUX.1 at full size."""
