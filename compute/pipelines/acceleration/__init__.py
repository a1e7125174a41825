"""Where and how fast a transformer computes: device, kernels, compilation, quantization, caching."""
