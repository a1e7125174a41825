"""Segmentation: the subject of an image, and the subject's share of each pixel."""
