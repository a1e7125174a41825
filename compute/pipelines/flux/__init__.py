"""FLUX.1 on diffusers: text to image, Fill and Kontext."""
