"""Strips image files to the parts that their pixels need: one module per format, bytes to bytes, without decoding."""
