"""LTX-Video on diffusers."""
