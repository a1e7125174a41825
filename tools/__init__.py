"""Tools for developing Compute, run from a checkout; the wheel contains none of them."""
