"""Members of the FLUX.1 family."""
