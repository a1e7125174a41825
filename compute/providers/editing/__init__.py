"""Refiners that edit an image part by part, with whatever edits images."""
