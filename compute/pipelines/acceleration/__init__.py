"""Placement and acceleration of a transformer: device, kernels, compilation, quantization, caching."""
