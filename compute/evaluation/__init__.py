"""Looks at images with a vision model: evaluations of shots, and captions of training images."""
