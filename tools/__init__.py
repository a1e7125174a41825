"""Tools for developing Compute, run from a checkout; the wheel carries none of them."""
