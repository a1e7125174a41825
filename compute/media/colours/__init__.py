"""Colour spaces of image files, as ICC profiles."""
